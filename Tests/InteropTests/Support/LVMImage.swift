// SPDX-License-Identifier: Apache-2.0

import Foundation
import TestSupport
import Testing

/// Disks with physical volumes whose labels and metadata are what LVM has written: Tests/Fixtures/lvm.
struct LVMImage {
    let directory: TemporaryDirectory

    /// Of the volume group "two", in extents of 256 KiB behind 1 MiB of each of its physical volumes, which are partitions.
    static let extent = 256 << 10
    /// Extent 34 of the first physical volume, which begins at 1 MiB, as its data does within it: the volume "secret", of 8 MiB.
    static let secret = (2 << 20) + 34 * extent
    /// Extent 66: the volume "origin", of 1 MiB.
    static let origin = (2 << 20) + 66 * extent

    /// A disk with the volume group "two" on its two partitions, of 60 and 36 MiB.
    func two(_ name: String = "two.raw") async throws -> String {
        let path = directory.file(name)
        try await Tool.succeed("truncate", ["-s", "100M", path])
        let script = "label: gpt\nstart=1MiB,size=60MiB,type=lvm\nstart=61MiB,size=36MiB,type=lvm\n"
        try await Tool.succeed("sfdisk", ["-q", path], input: Array(script.utf8))
        try Self.put("two-1", in: path, at: 1 << 20)
        try Self.put("two-2", in: path, at: 61 << 20)
        return path
    }

    /// A disk that is a physical volume as a whole, with the volume group "whole".
    func whole(_ name: String = "whole.raw") async throws -> String {
        let path = directory.file(name)
        try await Tool.succeed("truncate", ["-s", "16M", path])
        try Self.put("whole", in: path, at: 0)
        return path
    }

    /// A disk with the volume group "kinds", whose volumes, but for one, are stored in ways that are not read.
    func kinds(_ name: String = "kinds.raw") async throws -> String {
        let path = directory.file(name)
        try await Tool.succeed("truncate", ["-s", "64M", path])
        try Self.put("kinds", in: path, at: 0)
        return path
    }

    /// Writes data to a place of a disk.
    static func write(_ data: Data, to path: String, at offset: Int) throws {
        let file = try #require(FileHandle(forUpdatingAtPath: path))
        try file.seek(toOffset: UInt64(offset))
        try file.write(contentsOf: data)
        try file.close()
    }

    /// Writes the sectors of a fixture.
    private static func put(_ name: String, in path: String, at offset: Int) throws {
        let text = try File.text("\(Program.root)/Tests/Fixtures/lvm/\(name).hex")
        for (sector, bytes) in try #require(SectorFixture(text)).sectors {
            try write(Data(bytes), to: path, at: offset + 512 * Int(sector))
        }
    }
}
