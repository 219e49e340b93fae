// SPDX-License-Identifier: Apache-2.0

/// Sectors of a disk as text: a line "size N", and for each sector a line "sector N" and its rows of 16 bytes, "OFFSET HEX"; rows
/// of zeros are left out. Tests/Fixtures/content/README.md.
public struct SectorFixture: Sendable {
    /// Of the disk, in bytes.
    public private(set) var size: UInt64 = 0
    /// Contents by sector number.
    public private(set) var sectors: [UInt64: [UInt8]] = [:]

    /// Nil when a line is none of these.
    public init?(_ text: String) {
        var sector: UInt64 = 0
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2 else { return nil }
            switch (words[0], UInt64(words[1]), Int(words[0])) {
            case ("size", let number?, _): size = number
            case ("sector", let number?, _):
                sector = number
                sectors[sector] = [UInt8](repeating: 0, count: 512)
            case (_, _, let offset?):
                guard (0...496).contains(offset), let row = UInt128(words[1], radix: 16) else { return nil }
                let bytes = (0..<16).map { UInt8(truncatingIfNeeded: row >> UInt128(8 * (15 - $0))) }
                sectors[sector]?.replaceSubrange(offset..<(offset + 16), with: bytes)
            default: return nil
            }
        }
    }
}
