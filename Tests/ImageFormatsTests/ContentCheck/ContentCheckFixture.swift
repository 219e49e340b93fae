// SPDX-License-Identifier: Apache-2.0

import BlockIO
import SystemPackage
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
        var (size, sector): (UInt64, UInt64) = (0, 0)
        var sectors: [UInt64: [UInt8]] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            switch words[0] {
            case "size": size = try #require(UInt64(words[1]))
            case "sector":
                sector = try #require(UInt64(words[1]))
                sectors[sector] = [UInt8](repeating: 0, count: 512)
            default:
                let offset = try #require(Int(words[0]))
                let row = try #require(UInt128(words[1], radix: 16)).bigEndian
                sectors[sector]?.replaceSubrange(
                    offset..<(offset + 16), with: (0..<16).map { UInt8(truncatingIfNeeded: row >> UInt128(8 * $0)) })
            }
        }
        self.size = size
        self.sectors = sectors
    }
}
