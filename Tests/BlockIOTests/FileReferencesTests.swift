// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import SystemPackage
import Testing

/// Which files an image may name.
@Suite struct FileReferencesTests {
    /// A directory with `images/inside`, `outside`, and links.
    private func withPlaces(_ body: (_ root: String) throws -> Void) throws {
        let root = "/tmp/nbdecrypt-test-\(UInt64.random(in: 0 ... .max))"
        let files = FileManager.default
        try files.createDirectory(atPath: "\(root)/images/sub", withIntermediateDirectories: true)
        defer { try? files.removeItem(atPath: root) }
        try Data([1]).write(to: URL(fileURLWithPath: "\(root)/images/inside"))
        try Data([9]).write(to: URL(fileURLWithPath: "\(root)/images/top"))
        try Data([2, 2]).write(to: URL(fileURLWithPath: "\(root)/outside"))
        try files.createSymbolicLink(atPath: "\(root)/images/in", withDestinationPath: "sub/../inside")
        try files.createSymbolicLink(atPath: "\(root)/images/out", withDestinationPath: "../outside")
        try files.createSymbolicLink(atPath: "\(root)/images/up", withDestinationPath: "..")
        try body(root)
    }

    private func open(
        _ name: [UInt8], _ policy: FileReferences.Policy = .sameDirectory, allowed: [String] = [], of root: String
    ) throws(FormatError) -> (size: UInt64, path: FilePath) {
        let references = FileReferences(policy, allowed: allowed.map { FilePath($0) })
        let shown = String(decoding: name, as: UTF8.self)
        let source = try references.open(
            try meaning(FileReference(bytes: name, shown: shown)), "the backing file (\(shown))",
            of: try image(in: root), by: SourceOpener(), SourceAccess())
        return (source.device.size, try path(source))
    }

    private func open(
        _ name: String, _ policy: FileReferences.Policy = .sameDirectory, allowed: [String] = [], of root: String
    ) throws(FormatError) -> (size: UInt64, path: FilePath) {
        try open(Array(name.utf8), policy, allowed: allowed, of: root)
    }

    private func path(_ source: OpenSource) throws(FormatError) -> FilePath {
        guard case .directory(let place, _) = source.place else { throw .unreadable("it has no directory") }
        return place.path
    }

    private func meaning(_ reference: FileReference) throws(FormatError) -> ReferenceName {
        do { return try ReferenceName(reference) } catch { throw .unsupported(Sentence(error.reason)) }
    }

    /// The image that names files: "top" in `images`, or in the root itself.
    private func image(in root: String) throws(FormatError) -> OpenSource {
        let hasImages = FileManager.default.fileExists(atPath: "\(root)/images")
        let place = try ImagePlace(FilePath(hasImages ? "\(root)/images/top" : "\(root)/top"))
        let file = try FileDevice(path: hasImages ? place.path : "/proc/self/exe", excludesWriters: false)
        return OpenSource(file, place)
    }

    private func refuses(
        _ code: FormatError.Code, _ says: String, _ body: () throws(FormatError) -> (size: UInt64, path: FilePath)
    ) {
        #expect {
            _ = try body()
        } throws: { error in
            (error as? FormatError)?.code == code && "\(error)".contains(says)
        }
    }

    @Test func `names within the directory open, through links and detours too`() throws {
        try withPlaces { (root) throws in
            for name in ["inside", "./inside", "sub/../inside", "in", "sub//..//inside"] {
                #expect(try open(name, of: root).size == 1, "\(name)")
            }
            #expect(try open("sub/../inside", of: root).path == FilePath("\(root)/images/sub/../inside"))
        }
    }

    @Test func `what a found file names is looked for from the directory that it was found in, whatever is there now`()
        throws
    {
        try withPlaces { (root) throws in
            let files = FileManager.default
            try Data([3, 3, 3]).write(to: URL(fileURLWithPath: "\(root)/images/sub/mid"))
            try Data([4, 4, 4, 4]).write(to: URL(fileURLWithPath: "\(root)/images/sub/base"))
            let references = FileReferences(.sameDirectory)
            let middle = try references.open(
                try ReferenceName(FileReference(bytes: Array("sub/mid".utf8), shown: "")), "it",
                of: try image(in: root), by: SourceOpener(), SourceAccess())
            // A link out of the image's directory takes the place of the one that was looked into.
            try files.createDirectory(atPath: "\(root)/elsewhere", withIntermediateDirectories: true)
            try Data([5]).write(to: URL(fileURLWithPath: "\(root)/elsewhere/base"))
            try files.moveItem(atPath: "\(root)/images/sub", toPath: "\(root)/images/moved")
            try files.createSymbolicLink(atPath: "\(root)/images/sub", withDestinationPath: "../elsewhere")
            let base = try references.open(
                try ReferenceName(FileReference(bytes: Array("base".utf8), shown: "")), "it", of: middle,
                by: SourceOpener(), SourceAccess())
            #expect(base.device.size == 4)
        }
    }

    @Test func `names that lead out open only when they are allowed`() throws {
        try withPlaces { (root) throws in
            for name in ["../outside", "out", "up/outside", "sub/../../outside"] {
                refuses(.unsupported, "leads out of the directory") { () throws(FormatError) in
                    try open(name, of: root)
                }
                refuses(.unsupported, "as references deny says") { () throws(FormatError) in
                    try open(name, .deny, of: root)
                }
                #expect(try open(name, .allow, of: root).size == 2)
            }
            refuses(.unsupported, "absolute name") { () throws(FormatError) in try open("\(root)/outside", of: root) }
            for policy in FileReferences.Policy.allCases {
                #expect(try open("../outside", policy, allowed: ["\(root)/sub/../outside"], of: root).size == 2)
                #expect(try open("\(root)/outside", policy, allowed: ["\(root)/outside"], of: root).size == 2)
            }
            refuses(.unsupported, "as references deny says") { () throws(FormatError) in
                try open("inside", .deny, allowed: ["\(root)/images"], of: root)
            }
        }
    }

    @Test func `what is listed is what is opened, even if links make the name mean another file`() throws {
        try withPlaces { (root) throws in
            // By the letters it is images/inside; by the links it is images/sub/inside.
            try Data([3, 3, 3]).write(to: URL(fileURLWithPath: "\(root)/images/sub/inside"))
            try FileManager.default.createDirectory(
                atPath: "\(root)/images/sub/deeper", withIntermediateDirectories: false)
            try FileManager.default.createSymbolicLink(
                atPath: "\(root)/images/link", withDestinationPath: "sub/deeper")
            #expect(try open("link/../inside", of: root).size == 3)
            let listed = try open("link/../inside", allowed: ["\(root)/images/inside"], of: root)
            #expect(listed.size == 1 && listed.path == FilePath("\(root)/images/inside"))
        }
    }

    @Test func `only regular files open beneath a directory`() throws {
        try withPlaces { (root) throws in
            refuses(.unsupported, "not a regular file") { () throws(FormatError) in try open("sub", of: root) }
            refuses(.unsupported, "not a regular file") { () throws(FormatError) in
                try open("/dev/null", .allow, of: root)
            }
            refuses(.unsupported, "link of the system") { () throws(FormatError) in
                try open("/proc/self/exe", .allow, of: root)
            }
            refuses(.unreadable, "is not there") { () throws(FormatError) in try open("none", of: root) }
        }
    }

    @Test func `absolute names open beneath the directory, whatever it is called in them`() throws {
        try withPlaces { (root) throws in
            let files = FileManager.default
            try files.createSymbolicLink(atPath: "\(root)/alias", withDestinationPath: "images")
            try files.createSymbolicLink(atPath: "\(root)/images/sub/back", withDestinationPath: "../../alias")
            for name in [
                "\(root)/images/inside", "\(root)/images/../images/./inside", "\(root)//images/sub/../inside",
                "\(root)/alias/inside", "\(root)/images/sub/../../alias/in", "\(root)/images/sub/back/inside",
                "/proc/../\(root)/images/inside",
            ] {
                let found = try open(name, of: root)
                #expect(found.size == 1 && found.path == FilePath(name), "\(name)")
            }
            for name in [
                "\(root)/images/../outside", "\(root)/images/out", "\(root)/images/up/outside", "\(root)/alias/out",
                "\(root)/images/sub/../../outside", "\(root)/imagesX/inside", "/", "\(root)/images",
                "/proc/self/root\(root)/images/inside",
            ] {
                #expect {
                    try open(name, of: root)
                } throws: { error in
                    let text = "\(error)"
                    return text.contains("leads out of the directory") || text.contains("does not lead below")
                }
            }
            refuses(.unreadable, "is not there") { () throws(FormatError) in try open("\(root)/images/none", of: root) }
            refuses(.unsupported, "as references deny says") { () throws(FormatError) in
                try open("\(root)/images/inside", .deny, of: root)
            }
        }
    }

    @Test func `hidden files open only when they are allowed, whatever leads there`() throws {
        try withPlaces { (root) throws in
            let files = FileManager.default
            try files.createDirectory(atPath: "\(root)/images/.ssh", withIntermediateDirectories: true)
            for name in [".key", ".ssh/key"] {
                try Data([7, 7, 7]).write(to: URL(fileURLWithPath: "\(root)/images/\(name)"))
            }
            try files.createSymbolicLink(atPath: "\(root)/images/plain", withDestinationPath: ".key")
            try files.createSymbolicLink(atPath: "\(root)/images/way", withDestinationPath: ".ssh")
            try files.createSymbolicLink(atPath: "\(root)/images/.link", withDestinationPath: "inside")
            for name in [
                ".key", "sub/../.key", ".ssh/key", ".ssh/../inside", "plain", "way/key", ".link", "\(root)/images/.key",
                "\(root)/images/.ssh/key",
            ] {
                refuses(.unsupported, "is hidden, by the dot") { () throws(FormatError) in try open(name, of: root) }
                _ = try open(name, .allow, of: root)
                let listed = name.hasPrefix("/") ? name : "\(root)/images/\(name)"
                _ = try open(name, .deny, allowed: [listed], of: root)
            }
            // The directory of the image may have such a name itself.
            try files.moveItem(atPath: "\(root)/images", toPath: "\(root)/.images")
            try files.createSymbolicLink(atPath: "\(root)/images", withDestinationPath: ".images")
            #expect(try open("inside", of: root).size == 1)
        }
    }

    @Test(arguments: ["json:{}", "nbd://x", "http:x", ":x", "file://x", "fd:3"])
    func `names that are no files are refused under every policy`(name: String) throws {
        for policy in FileReferences.Policy.allCases {
            refuses(.unsupported, "which is never opened") { () throws(FormatError) in
                try open(name, policy, allowed: ["/"], of: "/tmp")
            }
        }
    }

    @Test func `names that are no paths are refused`() {
        for (name, says) in [([], "empty"), ([0x61, 0], "NUL"), ([0xFF], "not UTF-8")] as [([UInt8], String)] {
            refuses(.unsupported, says) { () throws(FormatError) in try open(name, .allow, of: "/tmp") }
        }
    }

    @Test func `a name that cannot be shown is refused, and one with quotes is named as it is`() throws {
        for name in ["a\u{1B}b", "a\u{202E}b", String(repeating: "x", count: 1024)] {
            refuses(.unsupported, "cannot be shown") { () throws(FormatError) in try open(name, .allow, of: "/tmp") }
        }
        let error = #expect(throws: FormatError.self) { try open("a'; b", .deny, of: "/tmp") }
        #expect(error?.sentence.remedies == [.references(policy: "deny"), .allowReference(path: "/tmp/a'; b")])
    }

    /// openat2(2) answers EAGAIN to ".." when a file is renamed meanwhile, whoever does it and wherever.
    @Test func `a name that goes up is followed while files are renamed elsewhere`() throws {
        try withPlaces { root in
            let isOver = Locked(false)
            let renamer = Thread {
                let names = ["\(root)/outside", "\(root)/renamed"]
                while !isOver.withLock({ $0 }) {
                    try? FileManager.default.moveItem(atPath: names[0], toPath: names[1])
                    try? FileManager.default.moveItem(atPath: names[1], toPath: names[0])
                }
            }
            renamer.start()
            defer { isOver.withLock { $0 = true } }
            for _ in 0..<200 {
                let size = try open("sub/../sub/../inside", of: root).size
                #expect(size == 1)
            }
        }
    }
}
