// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import TestSupport
import Testing

@testable import ImageFormats

/// How a qcow2 image is written to, in detail.
@Suite struct Qcow2WriterTests {
    private func bytes(_ count: Int, _ value: UInt8 = 7) -> [UInt8] { [UInt8](repeating: value, count: count) }

    private func range(_ offset: UInt64, _ length: UInt64) throws -> ByteRange {
        try #require(ByteRange(offset: offset, length: length))
    }

    /// An image without data.
    private func empty(
        _ shape: Qcow2Shape, _ body: (RecordedFile, any BlockDevice, Qcow2TestImage) async throws -> Void
    ) async throws {
        let image = try await Qcow2TestImage(shape, seed: 1)
        defer { image.remove() }
        let file = RecordedFile(image.bytes)
        try await body(file, try image.open(file, nil), image)
    }

    // MARK: Costs

    @Test(arguments: [30, 34, 38])
    func `a thousand allocations and a flush cost two flushes of the file`(sizeBits: Int) throws {
        // QEMU 7.2 takes 8, 98 and 1358.
        let fixture = try Qcow2WritableFixture(clusterBits: 16, size: 1 << UInt64(sizeBits))
        var random = SeededGenerator(seed: 1)
        for _ in 0..<1000 {
            try fixture.disk.write(bytes(65536), at: UInt64(random.number(below: 1 << (sizeBits - 16))) << 16)
        }
        #expect(fixture.file.flushCount == 0)
        try fixture.disk.flush()
        #expect(fixture.file.flushCount == 2)
        // One more where a block of reference counts is new: the first one is for 2 GiB.
        #expect(try fixture.audit().faults.listed == [])
    }

    @Test func `bytes that are stored in a cluster of their own are replaced by one write, and nothing is read`()
        async throws
    {
        try await empty(Qcow2Shape(clusterSize: 65536)) { file, disk, _ in
            try disk.write(bytes(65536), at: 65536)
            try disk.flush()
            try disk.flush()
            file.record.start()
            let calls = file.callCount
            try disk.write(bytes(4096, 9), at: 65536 + 8192)
            #expect(file.callCount == calls + 1)
            #expect(file.events.count == 1)
            try disk.flush()
            #expect(file.callCount == calls + 2, "one flush, for no table has changed")
        }
    }

    @Test func `what is written in fresh clusters is no more than what was given`() throws {
        let fixture = try Qcow2WritableFixture(clusterBits: 16, size: 1 << 24)
        try fixture.disk.write(bytes(65536), at: 0)
        fixture.file.record.start()
        try fixture.disk.write(bytes(512), at: 3 << 16)
        let written = fixture.file.events.reduce(0) { sum, event in
            if case .write(_, let bytes) = event { sum + bytes.count } else { sum }
        }
        #expect(written == 512)
        #expect(try fixture.disk.read(count: 65536, at: 3 << 16) == bytes(512) + bytes(65536 - 512, 0))
    }

    // MARK: Room

    @Test func `the refcount table grows, again and again`() throws {
        // 64 counts in a block, 64 blocks in a table of one cluster: 2 MiB.
        let fixture = try Qcow2WritableFixture(clusterBits: 9, size: 12 << 20, refcountOrder: 6)
        for place in stride(from: 0, to: 12 << 20, by: 1 << 16) {
            try fixture.disk.write(bytes(1 << 16, UInt8(place >> 16)), at: UInt64(place))
        }
        try fixture.disk.flush()
        let audit = try fixture.audit()
        #expect(audit.faults.listed == [] && audit.lostClusterCount == 0)
        for place in stride(from: 0, to: 12 << 20, by: 1 << 16) {
            #expect(try fixture.disk.read(count: 1 << 16, at: UInt64(place)) == bytes(1 << 16, UInt8(place >> 16)))
        }
    }

    @Test func `clusters that were given up are used again when there is no other room`() throws {
        let fixture = try Qcow2WritableFixture(clusterBits: 12, size: 1 << 20)
        // The file has been made 1 MiB long.
        try fixture.disk.write(bytes(1 << 19), at: 0)
        try fixture.disk.flush()
        fixture.file.setLimit(fixture.file.size)
        try fixture.disk.write(bytes(1 << 18, 3), at: 1 << 19)
        let error = #expect(throws: BlockError.self) { try fixture.disk.write(bytes(1 << 18, 4), at: 3 << 18) }
        #expect(error?.code == .noSpace)
        try fixture.disk.discard(try range(0, 1 << 19))
        try fixture.disk.write(bytes(1 << 18, 4), at: 3 << 18)
        #expect(try fixture.disk.read(count: 1 << 18, at: 1 << 19) == bytes(1 << 18, 3))
        #expect(try fixture.disk.read(count: 1 << 18, at: 3 << 18) == bytes(1 << 18, 4))
        // Once there is room, it goes on.
        fixture.file.setLimit(.max)
        try fixture.disk.write(bytes(1 << 19, 5), at: 0)
        try fixture.disk.flush()
        let audit = try fixture.audit()
        #expect(audit.faults.listed == [] && audit.lostClusterCount == 0)
        #expect(try fixture.disk.read(count: 1 << 19, at: 0) == bytes(1 << 19, 5))
    }

    @Test func `a cluster whose data could not be written does not become visible`() throws {
        let fixture = try Qcow2WritableFixture(clusterBits: 12, size: 1 << 20)
        try fixture.disk.write(bytes(4096), at: 0)
        fixture.file.record.fail(call: fixture.file.callCount + 1, .inputOutput("on purpose"))
        #expect(throws: BlockError.inputOutput("on purpose")) { try fixture.disk.write(bytes(4096), at: 4096) }
        #expect(try fixture.disk.read(count: 4096, at: 4096) == bytes(4096, 0))
        try fixture.disk.flush()
        let audit = try fixture.audit()
        #expect(audit.faults.listed == [] && audit.lostClusterCount == 0)
    }

    // MARK: Marks in the header

    @Test func `autoclear bits of others are cleared before the first write, and not before`() throws {
        let fixture = try Qcow2WritableFixture(clusterBits: 12, size: 1 << 20, autoclear: 0xF0 | 2)
        _ = try fixture.disk.read(count: 4096, at: 0)
        #expect(fixture.file.bytes[95] == 0xF2)
        fixture.file.record.start()
        try fixture.disk.write(bytes(4096), at: 0)
        #expect(fixture.file.bytes[95] == 2)
        guard case .write(88, let field) = fixture.file.events[0], case .flush = fixture.file.events[1] else {
            Issue.record("not the first")
            return
        }
        #expect(field == [0, 0, 0, 0, 0, 0, 0, 2])
    }

    @Test func `bitmaps that go on with every write are marked before the first one`() throws {
        var image = Qcow2BitmapFixture([
            Qcow2BitmapFixture.Entry("on", flags: 2), Qcow2BitmapFixture.Entry("off", flags: 0),
            Qcow2BitmapFixture.Entry("lost", flags: 3),
        ]).image
        image.set(UInt64(1), at: 88)
        let file = RecordedFile(image.bytes)
        let header = try #require(try Qcow2Header(device: file))
        #expect(
            try Qcow2Bitmap.all(of: file, header, cache: ImageCache()).map(\.isInconsistent) == [false, false, true])
        try Qcow2HeaderChange.prepare(file, header)
        #expect(file.flushCount == 1)
        let after = try Qcow2Bitmap.all(of: file, header, cache: ImageCache())
        #expect(after.map(\.isInconsistent) == [true, false, true])
        #expect(file.bytes[95] == 1, "the others are still good")
        // A directory that makes no sense must not be believed by others.
        image.set(UInt32(9), at: Qcow2BitmapFixture.extensionPlace)
        let damaged = RecordedFile(image.bytes)
        try Qcow2HeaderChange.prepare(damaged, try #require(try Qcow2Header(device: damaged)))
        #expect(damaged.bytes[95] == 0)
    }

    @Test func `an image that is not in order is refused, with the way out`() throws {
        for (bit, words) in [(1, "dirty bit"), (2, "corrupt bit"), (32, "features that nbdecrypt does not know")] {
            var image = Qcow2Fixture()
            image.set(UInt64(bit), at: 72)
            let file = RecordedFile(image.bytes)
            let header = try #require(try Qcow2Header(device: file))
            let error = #expect(throws: FormatError.self) {
                try Qcow2Image(writing: file, header: header, cipher: nil)
            }
            #expect(error?.code == .unsupported)
            #expect("\(error as Any)".contains(words))
        }
    }

    // MARK: Damage

    @Test func `tables of the image are not written over, whatever entries and counts say`() throws {
        // The only entry points to the L1 table, and no count is set.
        var image = Qcow2Fixture(entries: [1 << 63 | UInt64(Qcow2Fixture.l1Offset)])
        image.set(UInt64(1024), at: 512)
        let file = RecordedFile(image.bytes)
        let header = try #require(try Qcow2Header(device: file))
        let disk = try Qcow2Image(writing: file, header: header, cipher: nil)
        for offset: UInt64 in [0, 512] {
            let error = #expect(throws: BlockError.self) { try disk.write(bytes(512), at: offset) }
            #expect(error?.code == .damaged)
        }
        #expect(file.bytes == image.bytes)
    }

    // MARK: At the same time

    @Test(arguments: [Qcow2Shape.Encryption.none, .aes])
    func `threads that write, discard and read side by side keep what is theirs`(
        encryption: Qcow2Shape.Encryption
    ) async throws {
        let image = try await Qcow2TestImage(Qcow2Shape(clusterSize: 512, encryption: encryption), seed: 1)
        defer { image.remove() }
        let file = RecordedFile(image.bytes)
        let disk = try image.open(file, nil)
        let failures = Locked<[String]>([])
        // Each has every fourth cluster: they share tables, and clusters pass from one to the other.
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            var random = SeededGenerator(seed: UInt64(thread))
            var expected: [Int: UInt8] = [:]
            do {
                for _ in 0..<1500 {
                    let cluster = random.number(below: 80) * 4 + thread
                    let place = UInt64(cluster) * 512
                    switch random.number(below: 8) {
                    case 0:
                        try disk.zero(ByteRange(offset: place, length: 512) ?? .empty, .mayDiscard)
                        expected[cluster] = 0
                    case 1...3:
                        let value = UInt8(1 + random.number(below: 255))
                        try disk.write([UInt8](repeating: value, count: 512), at: place)
                        expected[cluster] = value
                    case 4 where random.number(below: 10) == 0: try disk.flush()
                    default:
                        guard let value = expected[cluster] else { continue }
                        let found = try disk.read(count: 512, at: place)
                        guard found.allSatisfy({ $0 == value }) else {
                            failures.withLock { $0.append("cluster \(cluster): \(found[0]), not \(value)") }
                            return
                        }
                    }
                }
            } catch { failures.withLock { $0.append("\(error)") } }
        }
        #expect(failures.withLock { $0 } == [])
        try disk.flush()
        let audit = try image.audit(file.bytes, dataFile: nil)
        #expect(audit.faults.listed == [] && audit.lostClusterCount == 0)
    }

    @Test func `a cluster is not used again while somebody may still read it`() throws {
        let fixture = try Qcow2WritableFixture(clusterBits: 12, size: 1 << 20)
        try fixture.disk.write(bytes(4096, 1), at: 0)
        try fixture.disk.flush()
        let epochs = fixture.epochs
        let epoch = epochs.enter()
        try fixture.disk.discard(try range(0, 4096))
        try fixture.disk.flush()
        fixture.file.record.start()
        // The place of the first cluster is free, and still has what it had.
        for number in 1..<20 as Range<UInt64> {
            try fixture.disk.write(bytes(4096, 2), at: number << 12)
            try fixture.disk.flush()
        }
        #expect(!wrote(fixture, fixture.firstPlace))
        epochs.leave(epoch)
        for number in 20..<24 as Range<UInt64> {
            try fixture.disk.write(bytes(4096, 2), at: number << 12)
            try fixture.disk.flush()
        }
        #expect(wrote(fixture, fixture.firstPlace))
        #expect(try fixture.audit().lostClusterCount == 0)
    }

    private func wrote(_ fixture: Qcow2WritableFixture, _ place: Int) -> Bool {
        fixture.file.events.contains { event in
            if case .write(place, let bytes) = event { bytes.first == 2 } else { false }
        }
    }
}

/// An image without data of any cluster size, made by hand.
struct Qcow2WritableFixture {
    let file: RecordedFile
    let disk: Qcow2Image
    let epochs: AccessEpochs
    /// Where the first cluster of data is put: behind the header, the refcount table, a block, the L1 table and an L2 table.
    let firstPlace: Int

    init(clusterBits: Int, size: UInt64, refcountOrder: UInt32 = 4, autoclear: UInt64 = 0) throws {
        let clusterSize = 1 << clusterBits
        let coverage = UInt64(1) << UInt64(2 * clusterBits - 3)
        let l1Count = Int((size + coverage - 1) / coverage)
        let l1Clusters = (l1Count * 8 + clusterSize - 1) / clusterSize
        var header: [UInt8] = [0x51, 0x46, 0x49, 0xFB]
        header.append(bigEndian: UInt32(3))
        header.append(bigEndian: UInt64(0))
        header.append(bigEndian: UInt32(0))
        header.append(bigEndian: UInt32(clusterBits))
        header.append(bigEndian: size)
        header.append(bigEndian: UInt32(0))
        header.append(bigEndian: UInt32(l1Count))
        header.append(bigEndian: UInt64(3 * clusterSize))
        header.append(bigEndian: UInt64(clusterSize))
        header.append(bigEndian: UInt32(1))
        header.append(bigEndian: UInt32(0))
        header.append(bigEndian: UInt64(0))
        header.append(bigEndian: UInt64(0))
        header.append(bigEndian: UInt64(0))
        header.append(bigEndian: autoclear)
        header.append(bigEndian: refcountOrder)
        header.append(bigEndian: UInt32(104))
        var bytes = header + [UInt8](repeating: 0, count: (3 + l1Clusters) * clusterSize - header.count)
        var field: [UInt8] = []
        field.append(bigEndian: UInt64(2 * clusterSize))
        bytes.replaceSubrange(clusterSize..<(clusterSize + 8), with: field)
        let width = 1 << (Int(refcountOrder) - 3)
        for cluster in 0..<(3 + l1Clusters) { bytes[2 * clusterSize + (cluster + 1) * width - 1] = 1 }
        file = RecordedFile(bytes)
        let parsed = try #require(try Qcow2Header(device: file))
        disk = try Qcow2Image(writing: file, header: parsed, cipher: nil)
        epochs = try #require(disk.writer).epochs
        firstPlace = (4 + l1Clusters) * clusterSize
    }

    func audit() throws -> Qcow2Audit {
        let file = MemoryDevice(file.bytes)
        return Qcow2Audit(file: file, header: try #require(try Qcow2Header(device: file)))
    }
}
