// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport
import Testing

@Suite struct ContentCheckHostileTests {
    /// A DOS partition table; an entry is type, first sector, number of sectors.
    private func table(_ entries: (type: UInt8, first: UInt32, count: UInt32)...) -> [UInt8] {
        var sector = [UInt8](repeating: 0, count: 512)
        for (index, entry) in entries.enumerated() {
            let start = 446 + 16 * index
            sector[start + 4] = entry.type
            sector.replaceSubrange(
                (start + 8)..<(start + 16), with: entry.first.littleEndianBytes + entry.count.littleEndianBytes)
        }
        sector.replaceSubrange(510..<512, with: [0x55, 0xAA])
        return sector
    }

    private func recognised(_ sectors: [UInt64: [UInt8]], size: UInt64 = 1 << 30) -> [String] {
        let disk = ContentCheckDevice(size: size, .noise(1), sectors: sectors)
        defer {
            #expect(disk.extentCalls <= 4096)
            #expect(disk.bytesRead <= 4 << 20)
        }
        return ContentCheck.examine(disk).recognised
    }

    @Test func `a chain of logical partitions that comes back to its start ends`() {
        let found = recognised([
            0: table((5, 1000, 100_000)), 1000: table((0x83, 8, 64), (5, 500, 64)),
            1500: table((0x83, 8, 64), (5, 0, 64)),
        ])
        #expect(found == ["MBR, 2 partitions"])
    }

    @Test func `an extended partition that contains itself ends`() {
        #expect(recognised([0: table((5, 1000, 1000)), 1000: table((5, 0, 1000))]) == ["MBR, 0 partitions"])
        #expect(recognised([0: table((5, 0, 1000))]) == ["MBR, 0 partitions"])
    }

    @Test func `a very long chain of logical partitions is cut`() {
        var sectors = [0 as UInt64: table((0x0F, 1000, 1 << 20))]
        for index in 0..<300 as Range<UInt64> {
            sectors[1000 + index * 100] = table((0x83, 50, 20), (5, UInt32((index + 1) * 100), 100))
        }
        #expect(recognised(sectors) == ["MBR, 251 partitions"])
    }

    @Test func `partitions that reach beyond the disk, or to the end of 32 bits, do no harm`() {
        #expect(recognised([0: table((0x83, 2048, .max), (0x83, 4096, .max))]) == ["MBR, 2 partitions"])
        #expect(recognised([0: table((0x83, .max, .max))], size: 1 << 44) == ["MBR, 1 partition"])
        #expect(recognised([0: table((5, .max, .max))], size: 1 << 44) == ["MBR, 0 partitions"])
    }

    @Test func `a partition that starts beyond the disk makes the table none`() {
        #expect(recognised([0: table((0x83, 1 << 31, 100))]) != ["MBR, 1 partition"])
    }

    /// The header of a GPT in sector 1, with a right checksum.
    private func header(entries: UInt64, count: UInt32, entrySize: UInt32, length: UInt32 = 92) -> [UInt8] {
        var bytes = Array("EFI PART".utf8) + [0, 0, 1, 0] + length.littleEndianBytes
        bytes += [UInt8](repeating: 0, count: 24 - bytes.count) + (1 as UInt64).littleEndianBytes
        bytes += [UInt8](repeating: 0, count: 72 - bytes.count)
        bytes += entries.littleEndianBytes + count.littleEndianBytes + entrySize.littleEndianBytes
        bytes += [UInt8](repeating: 0, count: 512 - bytes.count)
        let checksum = TableCRC32.checksum(bytes.prefix(Int(min(length, 512))))
        bytes.replaceSubrange(16..<20, with: checksum.littleEndianBytes)
        return bytes
    }

    @Test func `a GUID partition table with giant numbers does no harm`() {
        let entry = [UInt8](repeating: 0xFF, count: 512)
        for (start, count, size, isTable) in [
            (2, 128, 128, true), (.max, 128, 128, true), (UInt64.max / 512, 128, 128, true), (2, .max, 128, false),
            (2, .max, .max, false), (2, 128, 0, false), (0, 0, 128, false),
        ] as [(UInt64, UInt32, UInt32, Bool)] {
            let sectors = [1 as UInt64: header(entries: start, count: count, entrySize: size), 2: entry]
            let found = recognised(sectors).first
            #expect(found == (isTable ? "GPT, 0 partitions" : "data that is not noise in 2 of 2552 sampled sectors"))
        }
        let tooLong = recognised([1: header(entries: 2, count: 1, entrySize: 128, length: .max)])
        #expect(tooLong == ["data that is not noise in 1 of 2552 sampled sectors"])
    }

    @Test func `many partitions with the same file system are listed in bounded length`() throws {
        let ext4 = try ContentCheckFixture("ext4").sectors
        var entries: [UInt8] = []
        for index in 0..<128 as Range<UInt64> {
            let entry =
                [UInt8](repeating: 1, count: 32) + [1000 + index * 10, 1005 + index * 10].flatMap(\.littleEndianBytes)
            entries += entry + [UInt8](repeating: 0, count: 128 - entry.count)
        }
        var sectors = [1 as UInt64: header(entries: 2, count: 128, entrySize: 128)]
        for sector in 0..<32 { sectors[UInt64(2 + sector)] = Array(entries[(sector * 512)...].prefix(512)) }
        for index in 0..<128 as Range<UInt64> { sectors[1002 + index * 10] = ext4[2] }
        let disk = ContentCheckDevice(size: 1 << 30, .noise(1), sectors: sectors, extentLength: 512)
        let check = ContentCheck.examine(disk)
        #expect(check.recognised.count == 65)
        #expect(check.summary.hasPrefix("GPT, 128 partitions; ext4 in partition 1; "))
        #expect(check.summary.hasSuffix("; ext4 in partition 11; and 53 more"))
        #expect(disk.extentCalls <= 4096)
        #expect(disk.bytesRead <= 4 << 20)
    }

    @Test func `whatever stands in the sectors that are looked at, the check ends and stays within its bounds`() throws
    {
        for name in ["mbr-logical", "gpt", "fat16", "ext4", "md-1.2", "btrfs"] {
            let fixture = try ContentCheckFixture(name)
            for seed in 0..<30 as Range<UInt64> {
                var random = SeededGenerator(seed: seed)
                var sectors = fixture.sectors
                for sector in sectors.keys.sorted() {
                    for _ in 0..<(1 + seed % 8) {
                        let place = Int(random.next() % 512)
                        let bytes: [UInt8] = [0, 0xFF, 0x80, 1, UInt8(truncatingIfNeeded: random.next())]
                        sectors[sector]?[place] = bytes.randomElement(using: &random) ?? 0
                    }
                }
                let disk = ContentCheckDevice(size: fixture.size, .neverWritten(seed), sectors: sectors)
                _ = ContentCheck.examine(disk)
                #expect(disk.extentCalls <= 4096)
                #expect(disk.bytesRead <= 4 << 20)
            }
        }
    }
}
