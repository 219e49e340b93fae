// SPDX-License-Identifier: Apache-2.0

import BlockIO
import SystemPackage
import TestSupport
import Testing

/// Identifying sectors of a real disk: Tests/Fixtures/content/README.md, whose form those in Tests/Fixtures/lvm have, too.
struct ContentCheckFixture {
    /// Of the disk, in bytes.
    let size: UInt64
    /// Contents by sector number.
    let sectors: [UInt64: [UInt8]]

    init(_ name: String, in directory: String = "content") throws {
        let path = FilePath("\(#filePath)").removingLastComponent().appending("../../Fixtures/\(directory)/\(name).hex")
        let file = try FileDevice(path: path, excludesWriters: false)
        let text = String(decoding: try file.read(count: Int(file.size), at: 0), as: UTF8.self)
        let fixture = try #require(SectorFixture(text))
        (size, sectors) = (fixture.size, fixture.sectors)
    }
}
