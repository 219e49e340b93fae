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
        let reference = FileReference(bytes: name, shown: String(decoding: name, as: UTF8.self))
        let hasImages = FileManager.default.fileExists(atPath: "\(root)/images")
        let (file, place) = try references.open(
            reference, "backing file", of: ImagePlace(FilePath(hasImages ? "\(root)/images/top" : "\(root)/top")),
            excludesWriters: true)
        return (file.size, place.path)
    }

    private func open(
        _ name: String, _ policy: FileReferences.Policy = .sameDirectory, allowed: [String] = [], of root: String
    ) throws(FormatError) -> (size: UInt64, path: FilePath) {
        try open(Array(name.utf8), policy, allowed: allowed, of: root)
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
            func reference(_ name: String) -> FileReference { FileReference(bytes: Array(name.utf8), shown: name) }
            let top = try ImagePlace(FilePath("\(root)/images/top"))
            let middle = try references.open(reference("sub/mid"), "backing file", of: top, excludesWriters: true).place
            // A link out of the image's directory takes the place of the one that was looked into.
            try files.createDirectory(atPath: "\(root)/elsewhere", withIntermediateDirectories: true)
            try Data([5]).write(to: URL(fileURLWithPath: "\(root)/elsewhere/base"))
            try files.moveItem(atPath: "\(root)/images/sub", toPath: "\(root)/images/moved")
            try files.createSymbolicLink(atPath: "\(root)/images/sub", withDestinationPath: "../elsewhere")
            let base = try references.open(reference("base"), "backing file", of: middle, excludesWriters: true)
            #expect(base.file.size == 4)
        }
    }

    @Test func `names that lead out open only when they are allowed`() throws {
        try withPlaces { (root) throws in
            for name in ["../outside", "out", "up/outside", "sub/../../outside"] {
                refuses(.unsupported, "leads out of the directory") { () throws(FormatError) in
                    try open(name, of: root)
                }
                refuses(.unsupported, "--references deny") { () throws(FormatError) in try open(name, .deny, of: root) }
                #expect(try open(name, .allow, of: root).size == 2)
            }
            refuses(.unsupported, "absolute name") { () throws(FormatError) in
                try open("\(root)/images/inside", of: root)
            }
            for policy in FileReferences.Policy.allCases {
                #expect(try open("../outside", policy, allowed: ["\(root)/sub/../outside"], of: root).size == 2)
                #expect(try open("\(root)/outside", policy, allowed: ["\(root)/outside"], of: root).size == 2)
            }
            refuses(.unsupported, "--references deny") { () throws(FormatError) in
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

    @Test func `a name that cannot be shown is refused, and one with quotes stays between them`() throws {
        let hidden = FileReference(bytes: Array("a\u{1B}b".utf8), shown: "a?b")
        #expect {
            try FileReferences(.allow).open(hidden, "backing file", of: ImagePlace("/tmp/x"), excludesWriters: true)
        } throws: { "\($0)".contains("cannot be shown") }
        refuses(.unsupported, #"--allow-reference '/tmp/a'\''; b'"#) { () throws(FormatError) in
            try open("a'; b", .deny, of: "/tmp")
        }
    }
}
