// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

/// Extended L2 entries, in an image made by hand: clusters of 16 KiB with 32 parts of 512 bytes.
@Suite struct Qcow2SubclusterTests {
    private static let cluster = 16384
    private static let dataOffset = UInt64(4 * cluster)

    /// Header, refcount table, L1 table and L2 table fill a cluster each; then data.
    private func image(
        _ entries: [(entry: UInt64, bitmap: UInt64)], data: [UInt8] = [], backing: [UInt8]? = nil,
        encryption: UInt32 = 0
    ) throws -> (image: Qcow2Image, census: MappedCensus) {
        var fixture = Qcow2Fixture(size: UInt64(8 * Self.cluster))
        fixture.bytes += [UInt8](repeating: 0, count: 4 * Self.cluster - fixture.bytes.count)
        fixture.set(UInt64(0), at: Qcow2Fixture.l1Offset)
        fixture.set(UInt32(14), at: 20)
        fixture.set(encryption, at: 32)
        fixture.set(UInt64(2 * Self.cluster), at: 40)
        fixture.set(UInt64(Self.cluster), at: 48)
        fixture.set(UInt64(1 << 4), at: 72)
        fixture.set(UInt64(3 * Self.cluster), at: 2 * Self.cluster)
        for (index, pair) in entries.enumerated() {
            fixture.set(pair.entry, at: 3 * Self.cluster + index * 16)
            fixture.set(pair.bitmap, at: 3 * Self.cluster + index * 16 + 8)
        }
        fixture.bytes += data
        let device = fixture.device
        let header = try #require(try Qcow2Header(device: device))
        try Qcow2Support.check(header)
        return (
            Qcow2Image(
                file: device, header: header, cipher: encryption == 0 ? nil : InvertingCipher(),
                backing: backing.map { MemoryDevice($0) }), try MappedCensus(file: device, header: header)
        )
    }

    /// One cluster whose subclusters hold their numbers from 1 on.
    private static let numbered = (0..<32).flatMap { [UInt8](repeating: UInt8($0 + 1), count: 512) }

    private func subcluster(_ image: Qcow2Image, _ number: Int, cluster: Int = 0) throws -> UInt8 {
        let bytes = try image.read(count: 512, at: UInt64(cluster * Self.cluster + number * 512))
        try #require(Set(bytes).count == 1)
        return bytes[0]
    }

    @Test func `stored, zero and absent subclusters of one cluster are told apart`() throws {
        let backing = [UInt8](repeating: 0xBB, count: 2 * Self.cluster)
        // 0 and 31 are stored, 1 and 30 are zeros; the others come from below.
        let bitmap: UInt64 = 0x4000_0002_8000_0001
        let (image, census) = try image([(Self.dataOffset, bitmap)], data: Self.numbered, backing: backing)
        let found = try [0, 1, 2, 29, 30, 31].map { try subcluster(image, $0) }
        let expected: [UInt8] = [1, 0, 0xBB, 0xBB, 0, 32]
        #expect(found == expected)
        let all = try image.read(count: Self.cluster, at: 0)
        #expect(all.prefix(512).allSatisfy { $0 == 1 } && all.suffix(512).allSatisfy { $0 == 32 })
        #expect(try image.read(count: 1024, at: 256) == Array(all[256..<1280]))
        #expect(census.faultCount == 0 && census.allocatedCount == 1)
    }

    @Test func `subclusters can be zeros without a cluster, and absent in a cluster that is reserved`() throws {
        let backing = [UInt8](repeating: 0xBB, count: 3 * Self.cluster)
        let (image, census) = try image(
            [(0, UInt64(0xFFFF_FFFE) << 32), (Self.dataOffset, 0), (0, 0)], data: Self.numbered, backing: backing)
        #expect(try subcluster(image, 0) == 0xBB)
        #expect(try subcluster(image, 1) == 0)
        #expect(try subcluster(image, 31) == 0)
        #expect(try subcluster(image, 5, cluster: 1) == 0xBB)
        #expect(try subcluster(image, 5, cluster: 2) == 0xBB)
        #expect(census.allocatedCount == 1 && census.faultCount == 0)
    }

    @Test func `the zero bit of ordinary entries is of no meaning here`() throws {
        let (image, _) = try image([(Self.dataOffset | 1, 0xFFFF_FFFF)], data: Self.numbered)
        #expect(try subcluster(image, 3) == 4)
    }

    @Test func `only what is stored passes the cipher`() throws {
        let bitmap: UInt64 = 0x2_0000_0001
        let (image, _) = try image([(Self.dataOffset, bitmap)], data: Self.numbered, encryption: 1)
        let found = try [0, 1, 2].map { try subcluster(image, $0) }
        let expected: [UInt8] = [0xFE, 0, 0]
        #expect(found == expected)
    }

    @Test func `a subcluster that is both stored and zero is damage, and so is one without a cluster`() throws {
        let (image, census) = try image(
            [(Self.dataOffset, 0x1_0000_0001), (0, 1), (Self.dataOffset + 512, 1)], data: Self.numbered)
        for (cluster, says) in [
            (0, "both allocated and zero"), (1, "but no cluster"), (2, "not the start of a cluster"),
        ] {
            #expect {
                try image.read(count: 512, at: UInt64(cluster * Self.cluster))
            } throws: { error in
                (error as? BlockError)?.code == .damaged && "\(error)".contains(says)
            }
        }
        #expect(census.faultCount == 3)
    }

    @Test func `runs end where the kind of subcluster changes`() throws {
        let bitmap: UInt64 = 0x30_0000_000F
        let (image, _) = try image([(Self.dataOffset, bitmap)], data: Self.numbered)
        var kinds: [Extent.Kind] = []
        var ends: [UInt64] = []
        var offset: UInt64 = 0
        while offset < UInt64(Self.cluster) {
            let extent = try image.extent(at: offset, limit: UInt64(Self.cluster) - offset)
            kinds.append(extent.kind)
            offset += extent.length
            ends.append(offset)
        }
        #expect(kinds == [.data, .zero, .unallocated])
        let expected: [UInt64] = [2048, 3072, 16_384]
        #expect(ends == expected)
    }

    @Test(arguments: [9, 13]) func `clusters of less than 16 KiB cannot have subclusters`(bits: UInt32) throws {
        var fixture = Qcow2Fixture()
        fixture.bytes += [UInt8](repeating: 0, count: 5 * Self.cluster)
        fixture.set(bits, at: 20)
        fixture.set(UInt64(1 << 4), at: 72)
        fixture.set(UInt64(1 << 13), at: 40)
        fixture.set(UInt64(1 << 14), at: 48)
        #expect {
            try fixture.header()
        } throws: { error in
            (error as? FormatError)?.code == .damaged && "\(error)".contains("14 to 21")
        }
    }
}
