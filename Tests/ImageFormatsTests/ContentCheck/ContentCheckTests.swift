// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport
import Testing

@Suite struct ContentCheckTests {
    private let text = Array("The quick brown fox jumps over the lazy dog, again and again and again. ".utf8)

    /// A sector of text, different for each number.
    private func textSector(_ number: UInt64) -> [UInt8] {
        let line = Array("Line \(number): ".utf8) + text
        return Array((0..<8).flatMap { _ in line }.prefix(512))
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `noise is implausible, whatever its seed and size`(seed: UInt64) {
        for size in [4096, 1 << 20, 1 << 40] as [UInt64] {
            let check = ContentCheck.examine(ContentCheckDevice(size: size, .noise(seed)))
            #expect(check.verdict == .implausible)
            #expect(check.recognised.isEmpty)
        }
    }

    @Test func `ten thousand disks of noise are never plausible`() {
        let plausible = (0..<10_000 as Range<UInt64>).filter { seed in
            ContentCheck.examine(ContentCheckDevice(size: 2048, .noise(seed << 32))).verdict == .plausible
        }
        #expect(plausible.isEmpty)
    }

    @Test func `the summary of noise says how much was looked at`() {
        let check = ContentCheck.examine(ContentCheckDevice(size: 64 << 10, .noise(1)))
        #expect(
            check.summary
                == "128 of 128 sampled sectors look like noise, and there is no partition table or file system")
    }

    @Test func `written zeros are plausible`() {
        let check = ContentCheck.examine(ContentCheckDevice(size: 1 << 20, .zeros))
        #expect(check.verdict == .plausible)
        #expect(check.recognised == ["data that is not noise in 2048 of 2048 sampled sectors"])
    }

    @Test func `a single sector of text amid noise is enough`() {
        let check = ContentCheck.examine(ContentCheckDevice(size: 1 << 20, .noise(7), sectors: [1234: textSector(1)]))
        #expect(check.verdict == .plausible)
        #expect(check.summary == "data that is not noise in 1 of 2048 sampled sectors; no known file system")
    }

    @Test func `data that only prefer some byte values a little are plausible when there is enough of them`() {
        // One byte in 32 is of one of sixteen values: each sector passes for noise.
        var noise = SeededGenerator(seed: 3)
        let sectors = (0..<2048 as Range<UInt64>).map { sector in
            (sector, SeededGenerator(seed: sector).bytes(512).map { noise.next() % 32 == 0 ? $0 & 0x0F : $0 })
        }
        let disk = ContentCheckDevice(size: 1 << 20, .zeros, sectors: Dictionary(uniqueKeysWithValues: sectors))
        let check = ContentCheck.examine(disk)
        #expect(check.verdict == .plausible)
        #expect(check.summary == "data that looks compressed in 2048 sampled sectors; no known file system")
    }

    @Test(arguments: 1...9)
    func `less than 4 KiB of noise is too little to tell, 4 KiB are enough`(sectorCount: Int) {
        let disk = ContentCheckDevice(size: UInt64(sectorCount) * 512, .noise(9))
        #expect(ContentCheck.examine(disk).verdict == (sectorCount < 8 ? .cannotTell : .implausible))
    }

    @Test(arguments: [Extent.Kind.unallocated, .zero, .compressed])
    func `of an image that stores nothing, or nothing encrypted, nothing can be told`(kind: Extent.Kind) throws {
        let ext4 = try ContentCheckFixture("ext4")
        let disk = ContentCheckDevice(size: ext4.size, .zeros, sectors: ext4.sectors, kind: { _ in kind })
        let check = ContentCheck.examine(disk)
        #expect(check.verdict == .cannotTell)
        #expect(check.recognised.isEmpty)
        #expect(check.summary == "the image stores no encrypted data that can be read")
    }

    @Test(arguments: [0, 1, 511])
    func `a disk of no or less than one sector does no harm`(size: Int) {
        #expect(ContentCheck.examine(MemoryDevice([UInt8](repeating: 0, count: size))).verdict == .cannotTell)
    }

    @Test func `preallocated clusters that were never written say nothing`() {
        for seed in 1...20 as ClosedRange<UInt64> {
            let check = ContentCheck.examine(ContentCheckDevice(size: 64 << 10, .neverWritten(seed)))
            #expect(check.verdict == .cannotTell)
            #expect(check.summary == "none of 128 sampled sectors has ever been written")
        }
    }

    @Test func `what was written into preallocated clusters decides, for and against`() {
        let places = (100..<120 as Range<UInt64>)
        let noise = places.map { ($0, SeededGenerator(seed: $0).bytes(512)) }
        let text = places.map { ($0, textSector($0)) }
        for (sectors, verdict) in [(noise, ContentCheck.Verdict.implausible), (text, .plausible)] {
            let disk = ContentCheckDevice(
                size: 1 << 20, .neverWritten(4), sectors: Dictionary(uniqueKeysWithValues: sectors))
            #expect(ContentCheck.examine(disk).verdict == verdict)
        }
    }

    @Test func `stale data that were never encrypted are not counted twice`() {
        let noise = SeededGenerator(seed: 1).bytes(512)
        let sectors = (0..<2048 as Range<UInt64>).map { ($0, noise) }
        let disk = ContentCheckDevice(size: 1 << 20, .zeros, sectors: Dictionary(uniqueKeysWithValues: sectors))
        #expect(ContentCheck.examine(disk).verdict == .cannotTell)
    }

    @Test func `when nothing can be read, nothing can be told`() {
        let disk = ContentCheckDevice(size: 1 << 30, .zeros, isReadable: { _ in false })
        #expect(ContentCheck.examine(disk).verdict == .cannotTell)
        #expect(disk.extentCalls <= 4096)
    }

    @Test func `places that cannot be read are left out`() {
        let noise = ContentCheckDevice(size: 64 << 20, .noise(5), isReadable: { $0 % 100_000 > 200 })
        #expect(ContentCheck.examine(noise).verdict == .implausible)
        let zeros = ContentCheckDevice(size: 64 << 20, .zeros, isReadable: { $0 % 100_000 > 200 })
        #expect(ContentCheck.examine(zeros).verdict == .plausible)
    }

    @Test(arguments: [512, 4096, 32 << 10, 1 << 20, 32 << 20])
    func `the work is bounded, however large the disk and however fine its map`(extentLength: UInt64) {
        for stride in [1, 2, 3, 1000] as [UInt64] {
            let disk = ContentCheckDevice(
                size: 1 << 44, .noise(stride), extentLength: extentLength,
                kind: { $0 / (extentLength / 512) % stride == 0 ? .data : .unallocated })
            let verdict = ContentCheck.examine(disk).verdict
            // One sector in a thousand is not always found.
            #expect(verdict == .implausible || stride == 1000 && verdict == .cannotTell)
            #expect(disk.extentCalls <= 4096)
            #expect(disk.bytesRead <= 4 << 20)
        }
    }

    @Test func `data are found in the middle of a large empty disk when the map has long holes`() {
        let (first, size) = (3 << 30, 1 << 40) as (UInt64, UInt64)
        let disk = ContentCheckDevice(
            size: size, .noise(1), extentLength: 1 << 30, kind: { $0 == first / 512 ? .data : .unallocated })
        #expect(ContentCheck.examine(disk).verdict == .implausible)
    }

    @Test func `the same image gives the same verdict every time`() {
        let results = (0..<3).map { _ in ContentCheck.examine(ContentCheckDevice(size: 3 << 20, .noise(11))) }
        #expect(results[0] == results[1] && results[1] == results[2])
    }
}
