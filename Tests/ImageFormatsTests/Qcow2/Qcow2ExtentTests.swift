// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

/// What the layers of a chain, and the holes of their files, say of the disk.
@Suite struct Qcow2ExtentTests {
    private static let data = UInt64(Qcow2Fixture.dataOffset)
    private static func clusters(_ count: Int) -> [UInt8] { [UInt8](repeating: 7, count: count * 512) }

    /// - Parameter holes: of the file, or of the data file when there is one.
    private func image(
        _ fixture: Qcow2Fixture, holes: [Extent] = [], backing: (any BlockDevice)? = nil, isEncrypted: Bool = false,
        dataFile: [UInt8]? = nil
    ) throws -> Qcow2Image {
        var fixture = fixture
        if isEncrypted { fixture.set(UInt32(1), at: 32) }
        if dataFile != nil { fixture.set(UInt64(4), at: 72) }
        let file = MemoryDevice(fixture.bytes, extents: dataFile == nil ? holes : [])
        let header = try #require(try Qcow2Header(device: file))
        return Qcow2Image(
            file: file, header: header, cipher: isEncrypted ? InvertingCipher() : nil,
            dataFile: dataFile.map { MemoryDevice($0, extents: holes) }, backing: backing)
    }

    private func hole(_ offset: UInt64, _ length: UInt64) -> Extent {
        Extent(offset: offset, length: length, kind: .unallocated, depth: 1)
    }

    /// All extents, neighbours not joined.
    @Test func `each layer counts one more, and what nobody stores is nobody's`() throws {
        let bottom = try image(Qcow2Fixture(size: 4 * 512, entries: [Self.data, 0, 1], data: Self.clusters(1)))
        let middle = try image(
            Qcow2Fixture(size: 5 * 512, entries: [0, 0, 0, 0, Self.data], data: Self.clusters(1)), backing: bottom)
        let top = try image(Qcow2Fixture(size: 7 * 512, entries: [0, 1]), backing: middle)
        #expect(
            try top.extents() == [
                Extent(offset: 0, length: 512, kind: .data, depth: 3),
                Extent(offset: 512, length: 512, kind: .zero, depth: 1),
                Extent(offset: 1024, length: 512, kind: .zero, depth: 3),
                Extent(offset: 1536, length: 512, kind: .unallocated, depth: 0),
                Extent(offset: 2048, length: 512, kind: .data, depth: 2),
                Extent(offset: 2560, length: 1024, kind: .unallocated, depth: 2),
            ])
    }

    @Test func `zeros beyond the end of a layer are that layer's, wherever it is in the chain`() throws {
        let bottom = MemoryDevice(Self.clusters(1))
        let middle = try image(Qcow2Fixture(size: 3 * 512), backing: bottom)
        let top = try image(Qcow2Fixture(size: 4 * 512), backing: middle)
        #expect(
            try top.extents() == [
                Extent(offset: 0, length: 512, kind: .data, depth: 3),
                Extent(offset: 512, length: 1024, kind: .unallocated, depth: 3),
                Extent(offset: 1536, length: 512, kind: .unallocated, depth: 2),
            ])
    }

    @Test func `a hole of a raw file below is that layer's`() throws {
        let raw = MemoryDevice(Self.clusters(2), extents: [hole(512, 512)])
        let top = try image(Qcow2Fixture(size: 2 * 512), backing: raw)
        #expect(
            try top.extents() == [
                Extent(offset: 0, length: 512, kind: .data, depth: 2),
                Extent(offset: 512, length: 512, kind: .unallocated, depth: 2),
            ])
    }

    @Test func `a hole under stored clusters is zeros that are stored, to the byte`() throws {
        let fixture = Qcow2Fixture(
            size: 4 * 512, entries: (0..<4).map { Self.data + $0 * 512 }, data: Self.clusters(4))
        let holes = [hole(Self.data + 100, 1000)]
        #expect(
            try image(fixture, holes: holes).extents() == [
                Extent(offset: 0, length: 100, kind: .data),
                Extent(offset: 100, length: 1000, kind: .storedZeros),
                Extent(offset: 1100, length: 948, kind: .data),
            ])
        #expect(
            try image(fixture, holes: holes).extent(at: 150, limit: 30)
                == Extent(offset: 150, length: 30, kind: .storedZeros))
    }

    @Test func `a hole under encrypted clusters is data`() throws {
        let fixture = Qcow2Fixture(
            size: 4 * 512, entries: (0..<4).map { Self.data + $0 * 512 }, data: Self.clusters(4))
        let image = try image(fixture, holes: [hole(Self.data, 2048)], isEncrypted: true)
        #expect(try image.extents() == [Extent(offset: 0, length: 2048, kind: .data)])
    }

    @Test func `clusters in any order are joined when the file says the same of them`() throws {
        let places: [UInt64] = [3, 1, 5, 4, 0, 2]
        let fixture = Qcow2Fixture(size: 6 * 512, entries: places.map { Self.data + $0 * 512 }, data: Self.clusters(6))
        let image = try image(fixture, holes: [hole(Self.data + 4 * 512, 1024)])
        #expect(
            try image.extents() == [
                Extent(offset: 0, length: 1024, kind: .data), Extent(offset: 1024, length: 1024, kind: .storedZeros),
                Extent(offset: 2048, length: 1024, kind: .data),
            ])
    }

    @Test func `the missing end of the last cluster is zeros, and a missing cluster is data that cannot be read`()
        throws
    {
        var fixture = Qcow2Fixture(
            size: 3 * 512, entries: [Self.data, Self.data + 512, Self.data + 1024], data: Self.clusters(2))
        fixture.bytes.removeLast(100)
        #expect(
            try image(fixture).extents() == [
                Extent(offset: 0, length: 924, kind: .data), Extent(offset: 924, length: 100, kind: .storedZeros),
                Extent(offset: 1024, length: 512, kind: .data),
            ])
        #expect(
            try image(fixture, isEncrypted: true).extents() == [Extent(offset: 0, length: 1536, kind: .data)])
    }

    @Test func `the holes that count are those of the data file`() throws {
        let copied: UInt64 = 1 << 63
        let fixture = Qcow2Fixture(size: 4 * 512, entries: [copied, copied | 512, copied | 1024, 1])
        let image = try image(fixture, holes: [hole(512, 512)], dataFile: Self.clusters(3))
        #expect(
            try image.extents() == [
                Extent(offset: 0, length: 512, kind: .data), Extent(offset: 512, length: 512, kind: .storedZeros),
                Extent(offset: 1024, length: 512, kind: .data), Extent(offset: 1536, length: 512, kind: .zero),
            ])
    }

    @Test func `a file that cannot tell its holes has data`() throws {
        let fixture = Qcow2Fixture(size: 2 * 512, entries: [Self.data, Self.data + 512], data: Self.clusters(2))
        let device = fixture.device
        let image = Qcow2Image(file: device, header: try #require(try Qcow2Header(device: device)), cipher: nil)
        device.faults.unreadableByte = Self.data
        #expect(try image.extent(at: 0, limit: .max) == Extent(offset: 0, length: 1024, kind: .data))
    }

    @Test func `one answer goes over many tables, and ends where a table cannot be there`() throws {
        var fixture = Qcow2Fixture(size: 10 * 64 * 512, entries: [UInt64](repeating: 1, count: 64))
        fixture.set(UInt32(10), at: 36)
        for index in 1..<8 { fixture.set(UInt64(Qcow2Fixture.l2Offset), at: Qcow2Fixture.l1Offset + 8 * index) }
        fixture.set(UInt64(1 << 40), at: Qcow2Fixture.l1Offset + 8 * 8)
        let image = try fixture.image()
        #expect(try image.extent(at: 5, limit: .max) == Extent(offset: 5, length: 8 * 32768 - 5, kind: .zero))
        #expect { try image.extent(at: 8 * 32768, limit: .max) } throws: { "\($0)".contains("outside the file's") }
        #expect(try image.extent(at: 9 * 32768, limit: .max).kind == .unallocated)
    }

    @Test func `an answer has an end, however large the disk is`() throws {
        let count = 64
        var fixture = Qcow2Fixture(size: UInt64(count * 64 * 512), entries: [UInt64](repeating: 1, count: 64))
        fixture.set(UInt32(count), at: 36)
        for index in 0..<count { fixture.set(UInt64(Qcow2Fixture.l2Offset), at: Qcow2Fixture.l1Offset + 8 * index) }
        let extents = try fixture.image().extents()
        // The table of the first cluster, and 16 more.
        #expect(extents.map { $0.length / 32768 } == [17, 17, 17, 13])
        #expect(extents.allSatisfy { $0.kind == .zero })
    }

    @Test func `an entry that is not allowed is data, for the read to refuse`() throws {
        let image = try Qcow2Fixture(
            size: 3 * 512, entries: [Self.data, Self.data + 8 << 9 | 1 << 9, Self.data], data: Self.clusters(1)
        ).image()
        #expect(try image.extents().allSatisfy { $0.kind == .data })
        #expect(throws: BlockError.self) { try image.read(count: 512, at: 512) }
    }

    // MARK: What an answer may cost

    @Test func `from memory the same is told as from the file, and nothing before that`() throws {
        var fixture = Qcow2Fixture(
            size: 4 * 512, entries: (0..<4).map { Self.data + $0 * 512 }, data: Self.clusters(4))
        fixture.set(UInt32(1), at: 32)
        let file = MemoryDevice(fixture.bytes)
        file.faults.nothingIsCached = true
        let header = try #require(try Qcow2Header(device: file))
        let encrypted = Qcow2Image(file: file, header: header, cipher: InvertingCipher())
        #expect(throws: BlockError.wouldBlock) { try encrypted.extent(at: 0, limit: .max, .cachedOnly) }
        let told = try encrypted.extent(at: 0, limit: .max)
        #expect(told == Extent(offset: 0, length: 4 * 512, kind: .data))
        #expect(try encrypted.extent(at: 0, limit: .max, .cachedOnly) == told)
    }

    @Test func `holes that only the system knows are not guessed from memory`() throws {
        let fixture = Qcow2Fixture(
            size: 4 * 512, entries: (0..<4).map { Self.data + $0 * 512 }, data: Self.clusters(4))
        let file = MemoryDevice(fixture.bytes, extents: [hole(Self.data + 512, 512)])
        let plain = Qcow2Image(file: file, header: try #require(try Qcow2Header(device: file)), cipher: nil)
        let told = try plain.extents()
        file.faults.nothingIsCached = true
        #expect(throws: BlockError.wouldBlock) { try plain.extent(at: 0, limit: .max, .cachedOnly) }
        #expect(try plain.extents() == told)
    }

    @Test func `a spent budget makes the answer shorter, and never wrong`() throws {
        // The first L2 table is there and empty; three are not there.
        var fixture = Qcow2Fixture(size: 4 * 64 * 512)
        fixture.set(UInt32(4), at: 36)
        let image = try image(fixture, isEncrypted: true)
        #expect(try image.extent(at: 0, limit: .max) == Extent(offset: 0, length: 4 * 64 * 512, kind: .unallocated))
        #expect(
            try image.extent(at: 0, limit: .max, .mayBlock(Budget(looks: 0)))
                == Extent(offset: 0, length: 64 * 512, kind: .unallocated))
    }

    @Test func `each hole of the file that an answer joins is a look`() throws {
        let fixture = Qcow2Fixture(
            size: 4 * 512, entries: [0, 2, 4, 6].map { Self.data + $0 * 512 }, data: Self.clusters(8))
        let image = try image(fixture)
        #expect(try image.extent(at: 0, limit: .max).length == 4 * 512)
        // One for the slice, one for the second cluster.
        #expect(try image.extent(at: 0, limit: .max, .mayBlock(Budget(looks: 2))).length == 2 * 512)
    }
}
