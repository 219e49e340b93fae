// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// LUKS headers that tell of data, or of key material, that no cipher protects: nothing of it passes for a decrypted disk.
@Suite(.fewAtATime)
struct LUKSPlaintextTests {
    /// A header by cryptsetup, changed so that something is in the clear.
    struct Form: Sendable, CustomStringConvertible {
        let description: String
        /// Python that changes `metadata`; segment 0 begins at byte 16,777,216.
        let change: String
        let option: String
        let sentence: String
    }

    private static let moved = "s = metadata['segments']['0']; m = str(int(s['offset']) + 1048576); "
    private static let linear = "--allow-linear-segments"
    private static let null = "--allow-null-cipher"

    static let forms = [
        Form(
            description: "a linear segment alone",
            change: """
                metadata['segments'] = {'0': {'type': 'linear', 'offset': '16777216', 'size': 'dynamic'}}
                metadata['digests']['0']['segments'] = []
                """, option: linear, sentence: "segment 0 is linear"),
        Form(
            description: "a linear segment before an encrypted one",
            change: """
                \(moved)
                metadata['segments'] = {
                    '0': {'type': 'linear', 'offset': '16777216', 'size': '1048576'}, '1': dict(s, offset=m)}
                metadata['digests']['0']['segments'] = ['1']
                """, option: linear, sentence: "segment 0 is linear"),
        Form(
            description: "a linear segment behind an encrypted one",
            change: """
                \(moved)
                metadata['segments'] = {
                    '0': dict(s, size='1048576'), '1': {'type': 'linear', 'offset': m, 'size': 'dynamic'}}
                """, option: linear, sentence: "segment 1 is linear"),
        Form(
            description: "a segment with the null cipher",
            change: "metadata['segments']['0']['encryption'] = 'cipher_null-ecb'", option: null,
            sentence: "segment 0 has the cipher cipher_null-ecb"),
        Form(
            description: "a segment with the null cipher in a form that no library takes",
            change: "metadata['segments']['0']['encryption'] = 'capi:cbc(cipher_null)-plain64'", option: null,
            sentence: "segment 0 has the cipher capi:cbc(cipher_null)-plain64"),
        Form(
            description: "a keyslot with the null cipher",
            change: "metadata['keyslots']['0']['area']['encryption'] = 'cipher_null-ecb'", option: null,
            sentence: "keyslot 0 has the cipher cipher_null-ecb"),
        Form(
            description: "a keyslot with the null cipher beside a good one",
            change: "metadata['keyslots']['1']['area']['encryption'] = 'null-ecb'", option: null,
            sentence: "keyslot 1 has the cipher null-ecb"),
    ]

    private struct Audit: Decodable {
        struct Leak: Decodable {
            let kind: String
            let description: String
        }

        let verdict: String
        let leaks: [Leak]
    }

    @Test(arguments: forms)
    func `it is refused by name before a secret is asked for, wherever the header is`(_ form: Form) async throws {
        try await withContainer(form) { maker, path in
            let directory = maker.directory
            let (image, disk, inImage) = (directory.file("i.qcow2"), directory.file("disk"), directory.file("d.qcow2"))
            let header = directory.file("header")
            try await Tool.shell(
                """
                qemu-img convert -f raw -O qcow2 \(path) \(image)
                truncate -s 32M \(disk); echo 'start=2048, type=83' | sfdisk -q \(disk)
                dd if=\(path) of=\(disk) bs=1M seek=1 conv=notrunc status=none
                qemu-img convert -f raw -O qcow2 \(disk) \(inImage)
                head -c 16M \(path) > \(header)
                """)
            for place in [
                [path], [image], [disk, "-f", "raw", "--partition", "1"], [inImage, "--partition", "1"],
                [path, "--header", header], [path, "--header", path],
            ] {
                try await Program.expectRefusal(
                    ["serve"] + place + ["--socket", directory.file("s")], status: 65, saying: form.sentence,
                    "anybody could have changed the header", "add \(form.option)")
            }
            #expect(!File.exists(directory.file("s")))
            for place in [[path], [image], [path, "--header", header]] {
                let lines = try await Tool.succeed(try Program.path, ["info"] + place).split(separator: "\n")
                for name in ["weak:", "serve:"] {
                    #expect(lines.contains { $0.hasPrefix(name) && $0.contains(form.sentence) }, "\(lines)")
                }
                try await Program.expectRefusal(
                    ["info", "--check-passphrase"] + place, status: 65, saying: form.sentence, form.option)
            }
        }
    }

    @Test(arguments: forms)
    func `audit calls it a leak`(_ form: Form) async throws {
        try await withContainer(form) { maker, path in
            for place in [[path], [path, "--header", path]] {
                let outcome = try await Program.run(["audit", "--json"] + place)
                #expect(outcome.code == 1 && outcome.errors.contains(form.sentence), "\(outcome.errors)")
                let report = try JSONDecoder().decode(Audit.self, from: Data(outcome.output.utf8))
                #expect(report.verdict == "leaks" && report.leaks.map(\.kind) == ["plaintextPart"])
                #expect(report.leaks.first?.description.contains(form.sentence) == true)
            }
        }
    }

    @Test func `inside a qcow2 image the null cipher of LUKS1 is refused and audited as well`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let key = try directory.write("p", text: "secret")
        let path = directory.file("image.qcow2")
        try await Tool.shell(
            """
            for attempt in 1 2 3 4 5 6; do
                qemu-img create -q -f qcow2 --object secret,id=s,file=\(key) \
                    -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \(path) 3M && break
            done
            """)
        try Self.makeNull(path)
        for arguments in [["serve", path, "--socket", directory.file("s")], ["info", path, "--check-passphrase"]] {
            try await Program.expectRefusal(
                arguments, status: 65, saying: "segment 0 has the cipher cipher_null-ecb", "--allow-null-cipher")
        }
        let audit = try await Program.run(["audit", path])
        #expect(audit.code == 1 && audit.output.contains("segment 0 has the cipher cipher_null-ecb"))
        #expect(audit.output.contains("keyslot 0 has the cipher cipher_null-ecb"))
        let info = try await InfoReport.of(path)
        #expect(info.refusal?.contains("--allow-null-cipher") == true)
        #expect(info.luks?.verdict.weak.first?.what.hasPrefix("segment 0 has the cipher cipher_null-ecb") == true)
        #expect(info.luks?.verdict.weak.first?.command?.contains("migrate --allow-null-cipher \(path)") == true)
    }

    @Test func `the null cipher of LUKS1 is refused and audited`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = try await LUKSMaker(directory: directory).format(
            type: "luks1", options: ["--pbkdf-force-iterations", "1000"])
        try Self.makeNull(path)
        try await Program.expectRefusal(
            ["serve", path, "--socket", directory.file("s")], status: 65,
            saying: "segment 0 has the cipher cipher_null-ecb", "--allow-null-cipher")
        let audit = try await Program.run(["audit", path])
        #expect(audit.code == 1 && audit.output.contains("\(path): segment 0 has the cipher cipher_null-ecb"))
    }

    @Test
    func `what is allowed by name is served byte for byte, with a warning, and its command makes an encrypted image`()
        async throws
    {
        try await withContainer(Self.forms[0]) { maker, path in
            let plaintext = try File.contents(path).dropFirst(16 << 20)
            let outcome = try await ServerUnderTest.run(
                ["serve", path, Self.linear, "--socket", maker.directory.file("s")], in: maker.directory
            ) { server in try server.expectContents(Data(plaintext)) }
            #expect(outcome.errors.contains("warning: \(path): segment 0 is linear"), "\(outcome.errors)")
            try await Program.expectRefusal(
                ["serve", path, Self.null, "--socket", maker.directory.file("s")], status: 65, saying: Self.linear)
            let command = try #require(try await InfoReport.of(path).luks?.verdict.weak.first?.command)
            let program = try Program.path
            try maker.directory.write("new-passphrase", text: "new")
            try await Tool.shell(
                """
                cd \(maker.directory.path)
                PATH=\((program as NSString).deletingLastPathComponent):$PATH
                \(command.replacing("--iter-time 5000", with: "--iter-time 10 --new-passphrase-file new-passphrase"))
                """)
            let image = maker.directory.file("new.qcow2")
            try await ServerUnderTest.run(
                [
                    "serve", image, "--passphrase-file", maker.directory.file("new-passphrase"), "--socket",
                    maker.directory.file("s"),
                ], in: maker.directory
            ) { server in try server.expectContents(Data(plaintext)) }
        }
    }

    /// Makes the cipher of the first LUKS1 header in a file the null cipher.
    private static func makeNull(_ path: String) throws {
        let magic = try #require(
            try File.contents(path).firstRange(of: Data([0x4C, 0x55, 0x4B, 0x53, 0xBA, 0xBE, 0, 1])))
        let editor = Qcow2Editor(path: path)
        for (name, place) in [("cipher_null", 8), ("ecb", 40)] {
            try editor.set(
                Array(name.utf8) + [UInt8](repeating: 0, count: 32 - name.utf8.count), at: magic.lowerBound + place)
        }
    }

    private func withContainer(_ form: Form, _ body: (LUKSMaker, _ path: String) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory)
        let path = try await maker.format(options: LUKSMaker.cheap + ["--sector-size", "512"])
        if form.change.contains("['keyslots']['1']") { try await maker.addKey("second", to: path) }
        try await maker.edit(path, form.change)
        try await body(maker, path)
    }
}
