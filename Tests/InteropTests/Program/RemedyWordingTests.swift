// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Testing

@testable import nbdecrypt

/// Libraries advise values, and the program words them with its options.
@Suite struct RemedyWordingTests {
    @Test func `every remedy is worded with an option or a command that is there, and with a value where it takes one`()
        async throws
    {
        let options = try await ProgramOptions.read()
        #expect(options.takesValue["--format"] == true && options.takesValue["--writable"] == false)
        for remedy in Remedy.samples {
            let words = RemedyWording.words(remedy).split(separator: " ", maxSplits: 1).map(String.init)
            if words[0] == "nbdecrypt" {
                #expect(words.count == 2 && options.commands.contains(words[1]), "\(words)")
                continue
            }
            guard let takesValue = options.takesValue[words[0]] else {
                Issue.record("there is no option \(words[0])")
                continue
            }
            #expect(takesValue || words.count == 1, "\(words) takes no value")
        }
    }

    @Test func `no two remedies are worded alike, and the samples are of all cases`() throws {
        let source = try File.text("\(Program.root)/Sources/BlockIO/Remedy.swift")
        let cases = source.matches(of: /(?m)^    case (\w+)/).map { String($0.1) }
        #expect(cases.count > 30 && Remedy.samples.count == cases.count)
        #expect(Set(Remedy.samples.map(RemedyWording.words)).count == cases.count)
    }

    @Test func `values are words of a shell, and names that others choose stay between their quotes`() throws {
        for (remedy, words) in [
            (.allowReference(path: "/tmp/a'; b"), #"--allow-reference '/tmp/a'\''; b'"#),
            (.allowName("CN=x'y"), #"--tls-allow-dn 'CN=x'\''y'"#),
            (.luksHeader(path: "-a b"), "--header './-a b'"),
            (.logicalVolume("vg0/a b"), "--logical-volume 'vg0/a b'"),
            (.backingFormat(layer: 2, format: "raw"), "--backing-format 2=raw"),
            (.format(nil), "-f"), (.format("qcow2"), "-f qcow2"), (.keyslot(0), "--key-slot 0"),
        ] as [(Remedy, String)] {
            #expect(RemedyWording.words(remedy) == words)
        }
    }

    /// Options of other programs, in commands of theirs.
    private static let ofOthers = [
        // Of cryptsetup and qemu-nbd, which have options of the same names.
        "`cryptsetup reencrypt --resume-only DEVICE` (with --force-offline-reencrypt if that is a file, and --header FILE if ",
        "`cryptsetup luksDump --dump-volume-key --volume-key-file NEW DEVICE` \\(LUKSSupport.whatIsDevice)",
        #"qemu-nbd --read-only --persistent --socket=$PWD/nbd.sock", driver: "qcow"#,
    ]

    @Test func `no library says an option or a command of the program in a text`() async throws {
        let options = try await ProgramOptions.read()
        // QEMU has an option --object of the same meaning, in commands of its programs.
        let long = options.takesValue.keys.filter { $0.hasPrefix("--") && $0 != "--object" }.map {
            NSRegularExpression.escapedPattern(for: $0)
        }
        let patterns = try [
            "(?<![\\w-])(?:\(long.joined(separator: "|")))(?![\\w-])",
            "nbdecrypt (?:\(options.commands.joined(separator: "|")))\\b",
            // Of the short ones, what is advised: other programs have -f, too.
            "\\b(?:add|say|says|leave|with|without|give|or|as) -[a-zA-Z]\\b",
        ].map { try NSRegularExpression(pattern: $0) }
        var literals = 0
        var found: [String] = []
        for module in ["BlockIO", "ImageFormats", "Crypto", "DiskStack", "NBDServer"] {
            let root = "\(Program.root)/Sources/\(module)"
            let names = try #require(FileManager.default.enumerator(atPath: root)).compactMap { $0 as? String }
            for name in names where name.hasSuffix(".swift") {
                for line in try File.text("\(root)/\(name)").components(separatedBy: "\n") {
                    guard !line.drop(while: { $0 == " " }).hasPrefix("//"), let begin = line.firstIndex(of: "\""),
                        let end = line.lastIndex(of: "\""), begin < end
                    else { continue }
                    literals += 1
                    let text = String(line[line.index(after: begin)..<end])
                    guard !Self.ofOthers.contains(text) else { continue }
                    let whole = NSRange(location: 0, length: text.utf16.count)
                    if patterns.contains(where: { $0.firstMatch(in: text, range: whole) != nil }) {
                        found.append("\(module)/\(name): \(text)")
                    }
                }
            }
        }
        #expect(literals > 1000)
        #expect(found == [], "let the sentence have a Remedy")
    }
}

extension Remedy {
    /// One of each case.
    static var samples: [Remedy] { Array(sequence(first: .writable, next: \.nextSample)) }

    /// A sample of the case behind this one; the compiler demands that each has its place.
    private var nextSample: Remedy? {
        switch self {
        case .writable: .repair
        case .repair: .allowUnlocked
        case .allowUnlocked: .shareWithWriters
        case .shareWithWriters: .overlay
        case .overlay: .overlayDirectory
        case .overlayDirectory: .overlayFile
        case .overlayFile: .overlaySecret
        case .overlaySecret: .references(policy: "deny")
        case .references: .allowReference(path: "/a")
        case .allowReference: .format("raw")
        case .format: .backingFormat(layer: 1, format: "raw")
        case .backingFormat: .luksHeader(path: "header")
        case .luksHeader: .allowDamage
        case .allowDamage: .describeImage
        case .describeImage: .auditImage
        case .auditImage: .keyslot(1)
        case .keyslot: .keyFile
        case .keyFile: .aesKeyFile
        case .aesKeyFile: .volumeKeyFile
        case .volumeKeyFile: .checkPassphrase
        case .checkPassphrase: .skipPassphraseCheck
        case .skipPassphraseCheck: .allowNullCipher
        case .allowNullCipher: .allowLinearSegments
        case .allowLinearSegments: .derivationIterations
        case .derivationIterations: .derivationMemory
        case .derivationMemory: .derivationWork
        case .derivationWork: .derivationSeconds
        case .derivationSeconds: .exports("all")
        case .exports: .bitmap
        case .bitmap: .partition(1)
        case .partition: .logicalVolume("vg0/root")
        case .logicalVolume: .offset(512)
        case .offset: .size(512)
        case .size: .sectorSize(512)
        case .sectorSize: .socketPath
        case .socketPath: .address
        case .address: .tcpPort
        case .tcpPort: .vsockPort
        case .vsockPort: .requestBytes
        case .requestBytes: .certificates
        case .certificates: .preSharedKeys
        case .preSharedKeys: .verifyPeers
        case .verifyPeers: .allowName("CN=a")
        case .allowName: nil
        }
    }
}
