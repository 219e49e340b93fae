// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport
import Testing

/// What a chain of images does with a budget: in it one request can touch very many places.
@Suite struct BudgetOfImagesTests {
    private static let base = (0..<(64 * 512)).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 11) }
    /// Odd clusters are zeros in each layer; even ones are those of the base.
    private static let expected = base.enumerated().map { $0 / 512 % 2 == 0 ? $1 : 0 }

    /// Forty layers over `base`, of which each has a run for each of its 64 clusters.
    private func chain(_ version: Int, _ base: MemoryDevice) throws -> any BlockDevice {
        var disk: any BlockDevice = base
        for _ in 0..<40 {
            if version == 1 {
                let fixture = QcowFixture(
                    entries: (0..<64).map { $0 % 2 == 0 ? 0 : QcowFixture.compressed(2048, 8) },
                    data: QcowFixture.cluster(0) + QcowFixture.packed)
                let device = fixture.device
                let header = try #require(try QcowHeader(device: device))
                disk = QcowImage(file: device, header: header, cipher: nil, backing: disk)
            } else {
                let device = Qcow2Fixture(entries: (0..<64).map { $0 % 2 }).device
                let header = try #require(try Qcow2Header(device: device))
                disk = Qcow2Image(file: device, header: header, cipher: nil, backing: disk)
            }
        }
        return disk
    }

    @Test func `a read that touches more places than the budget allows is left to somebody who may take long`() throws {
        let disk = try chain(2, MemoryDevice(Self.base))
        // The tables are in memory from now on.
        #expect(try disk.read(count: Self.base.count, at: 0) == Self.expected)
        #expect(throws: BlockError.wouldBlock) {
            try disk.read(count: Self.base.count, at: 0, .cachedOnly(Budget(looks: 100)))
        }
        #expect(try disk.read(count: 512, at: 0, .cachedOnly(Budget(looks: 100))) == Array(Self.expected[..<512]))
        #expect(
            try disk.read(count: Self.base.count, at: 0, .cachedOnly(Budget(looks: 10_000))) == Self.expected)
    }

    @Test(arguments: [1, 2])
    func `a read that nobody waits for ends`(version: Int) throws {
        let base = MemoryDevice(Self.base)
        let disk = try chain(version, base)
        let abandoned = Budget(looks: .max) { true }
        #expect(throws: BlockError.wouldBlock) { try disk.read(count: 512, at: 0, .mayBlock(abandoned)) }
        #expect(base.readCount == 0)
        #expect(try disk.read(count: 512, at: 0) == Array(Self.expected[..<512]))
    }

    @Test(arguments: [1, 2])
    func `a prefetch goes as far as its budget, whatever the chain`(version: Int) throws {
        let base = MemoryDevice(Self.base)
        let disk = try chain(version, base)
        let small = Budget(looks: 200)
        disk.prefetch(0, disk.size, small)
        #expect(!small.look())
        // One cluster of the base takes a look at each of the forty layers.
        #expect((1...5).contains(base.calls.count))
        disk.prefetch(0, disk.size, Budget(looks: 100_000))
        #expect(base.calls.suffix(32).count == 32)
        disk.prefetch(0, disk.size, Budget(looks: .max) { true })
        #expect(base.calls.count <= 37)
    }
}
