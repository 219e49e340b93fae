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
        guard case .directory(let place) = disk.place else { throw BlockError.readOnly }
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
        let clock = VirtualClock()
        let source = SimulatedSource(MemoryDevice([1, 2, 3], isWritable: true), clock: clock)
        var opener = SourceOpener()
        opener.clock = clock
        let open = try opener.open(.remote(source, name: "sim:disk"))
        #expect(try open.device.read(count: 3, at: 0) == [1, 2, 3])
        #expect(try open.device.read(count: 3, at: 0, .cachedOnly) == [1, 2, 3])
        #expect(!open.device.isWritable)
        if case .directory = open.place { Issue.record("it has a directory") }
        let identity = open.identity
        source.replace()
        #expect(identity != source.identity)
        #expect(identity.isSamePlace(as: source.identity))
        #expect(!identity.isSamePlace(as: .remote(place: "sim://host/other", version: "1")))
    }

    @Test func `a source that is only read is not opened for writing`() throws {
        defer { remove() }
        var opener = SourceOpener()
        opener.isWritable = true
        let source = SimulatedSource(MemoryDevice([1]), clock: VirtualClock())
        #expect(
            throws: FormatError.unreadable("it cannot be written to; serve it without --writable")
        ) { try opener.open(.remote(source, name: "sim:disk")) }
    }
}
