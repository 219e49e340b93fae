// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import SystemPackage
import Testing
import TestSupport

@Suite struct SourceOpenerTests {
    private let directory: String

    init() throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("nbds-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        try Data([1, 2, 3]).write(to: URL(fileURLWithPath: "\(directory)/disk"))
        try FileManager.default.createSymbolicLink(
            atPath: "\(directory)/link", withDestinationPath: "\(directory)/disk")
    }

    private func remove() { try? FileManager.default.removeItem(atPath: directory) }

    @Test func `a file has one identity by all of its names, and names in it start in its directory`() throws {
        defer { remove() }
        let opener = SourceOpener()
        let disk = try opener.open(.file(FilePath("\(directory)/disk")))
        let link = try opener.open(.file(FilePath("\(directory)/link")))
        #expect(disk.identity == link.identity)
        #expect(disk.identity.isSamePlace(as: link.identity))
        #expect(try disk.device.read(count: 3, at: 0) == [1, 2, 3])
        #expect(!disk.device.isWritable)
        guard case .directory(let place, _) = disk.place else { throw BlockError.readOnly }
        #expect(place.path == FilePath("\(directory)/disk"))
        #expect(disk.name == "\(directory)/disk")
    }

    @Test func `what is not there is told without its name`() throws {
        defer { remove() }
        #expect(
            throws: FormatError.unreadable("it cannot be opened: No such file or directory; check the name")
        ) { try SourceOpener().open(.file(FilePath("\(directory)/none"))) }
    }

    @Test func `a source far away is opened with memory of its own, and names no files`() throws {
        defer { remove() }
        let host = SimulatedHost(clock: VirtualClock())
        let source = host.add("disk", MemoryDevice([1, 2, 3], isWritable: true))
        let open = try host.opener.open(SimulatedHost.source("disk"))
        #expect(try open.device.read(count: 3, at: 0) == [1, 2, 3])
        #expect(try open.device.read(count: 3, at: 0, .cachedOnly) == [1, 2, 3])
        #expect(!open.device.isWritable && !open.isFile)
        #expect(open.missingLocks == "it is far away, where nothing keeps other programs from writing to it")
        if case .directory = open.place { Issue.record("it has a directory") }
        let identity = open.identity
        source.replace()
        #expect(identity != source.identity)
        #expect(identity.isSamePlace(as: source.identity))
        #expect(!identity.isSamePlace(as: .remote(place: "sim://host/other", version: "1")))
    }

    @Test func `a source far away is written to only by who takes care that nobody else does`() throws {
        defer { remove() }
        let host = SimulatedHost(clock: VirtualClock())
        host.add("disk", MemoryDevice([1], isWritable: true))
        host.add("fixed", MemoryDevice([1]))
        var access = SourceAccess(isWritable: true)
        let error = #expect(throws: FormatError.self) {
            try host.opener.open(SimulatedHost.source("disk"), access)
        }
        #expect(error?.description.hasPrefix("it is far away, where nothing keeps other programs from writing") == true)
        #expect(error?.description.contains("add allowsUnlocked") == true)
        access.allowsUnlocked = true
        #expect(try host.opener.open(SimulatedHost.source("disk"), access).device.isWritable)
        #expect(
            throws: FormatError.unreadable("it cannot be written to; serve it without \(remedy: .writable)")
        ) { try host.opener.open(SimulatedHost.source("fixed"), access) }
    }

    @Test func `what no kind takes is refused by its protocol, with what is taken`() throws {
        defer { remove() }
        let error = #expect(throws: FormatError.self) {
            try SimulatedHost(clock: nil).opener.open(ImageSource("rbd:pool/image"))
        }
        #expect(
            error
                == .unreadable(
                    "this is reached by rbd, which is not read here: images are opened from files and block devices, and from "
                        + "URLs that begin with sim; copy the image to a file first, and name that; a file of that name in the "
                        + "directory is ./rbd:pool/image"))
    }

    /// A name in an image that is at `url`.
    private func open(
        _ name: String, at image: String, _ policy: FileReferences.Policy = .sameDirectory, on host: SimulatedHost
    ) throws(FormatError) -> OpenSource {
        let meaning: ReferenceName
        do { meaning = try ReferenceName(FileReference(bytes: Array(name.utf8), shown: name)) } catch {
            throw .unsupported(Sentence(error.reason))
        }
        return try FileReferences(policy, allowed: ["/etc/hostname"]).open(
            meaning, "it (\(name))", of: try host.opener.open(ImageSource(image)), by: host.opener,
            SourceAccess())
    }

    @Test func `what an image far away names lies beside it, under whatever policy`() throws {
        defer { remove() }
        let host = SimulatedHost(clock: VirtualClock())
        host.add("top", MemoryDevice([1]))
        host.add("base", MemoryDevice([1, 2]))
        #expect(try open("base", at: "sim://host/a/top?key=1", on: host).name == "sim://host/a/base?key=1")
        #expect(try open("base", at: "sim://host/top", .allow, on: host).identity == host.source("base")?.identity)
        for name in ["/etc/hostname", "a/base", "../base", ".base", ".", ".."] {
            for policy in [FileReferences.Policy.sameDirectory, .allow] {
                let error = #expect(throws: FormatError.self, "\(name)") {
                    try open(name, at: "sim://host/top", policy, on: host)
                }
                #expect(error?.code == .unsupported)
                #expect(error?.description.hasPrefix("it (\(name)) does not lie beside the image") == true)
            }
        }
        let denied = #expect(throws: FormatError.self) { try open("base", at: "sim://host/top", .deny, on: host) }
        #expect(denied?.description.contains("references deny") == true)
        let missing = #expect(throws: FormatError.self) { try open("none", at: "sim://host/top", on: host) }
        #expect(missing == .unreadable("it (none): the machine has no such image"))
    }
}
