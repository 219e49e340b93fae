// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import ImageFormats

@Suite struct Qcow2AuditTests {
    private static let copied: UInt64 = 1 << 63
    private static let data = UInt64(Qcow2Fixture.dataOffset)

    /// A sound image: the fixture with reference counts, and `clusters` of data.
    private static func fixture(_ clusters: Int = 4, version: UInt32 = 3) -> Qcow2Fixture {
        var fixture = Qcow2Fixture(
            version: version, entries: (0..<clusters).map { copied | (data + UInt64($0) * 512) },
            data: [UInt8](repeating: 0xDA, count: clusters * 512))
        fixture.set(UInt64(1024), at: 512)
        for cluster in 0..<(5 + clusters) { setRefcount(1, cluster, &fixture) }
        return fixture
    }

    private static func setRefcount(_ count: UInt16, _ cluster: Int, _ fixture: inout Qcow2Fixture) {
        fixture.set(count, at: 1024 + 2 * cluster)
    }

    private static func audit(_ fixture: Qcow2Fixture, limits: Qcow2AuditLimits = .usual) throws -> Qcow2Audit {
        let header = try #require(try fixture.header())
        return Qcow2Audit(file: fixture.device, header: header, mapCells: 16, limits: limits)
    }

    /// Exactly these kinds of fault, and a sentence with these words.
    private static func expect(
        _ counts: [AuditFault.Kind: UInt64], saying words: String, lost: UInt64 = 0, in fixture: Qcow2Fixture,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let audit = try audit(fixture)
        #expect(audit.faults.counts == counts, "\(audit.faults.listed)", sourceLocation: sourceLocation)
        #expect(audit.lostClusterCount == lost, sourceLocation: sourceLocation)
        #expect(
            audit.faults.listed.contains { $0.description.contains(words) }, "\(audit.faults.listed)",
            sourceLocation: sourceLocation)
    }

    @Test(arguments: [2, 3] as [UInt32])
    func `A sound image has no faults`(version: UInt32) throws {
        let audit = try Self.audit(Self.fixture(version: version))
        #expect(audit.faults == AuditFaults() && audit.lostClusterCount == 0 && audit.isComplete && audit.storesData)
        let empty = try Self.audit(Self.fixture(0, version: version))
        #expect(empty.faults.total == 0 && !empty.storesData)
    }

    @Test func `A cluster with more users than its count says is damage`() throws {
        var fixture = Self.fixture()
        fixture.set(Self.copied | Self.data, at: Qcow2Fixture.l2Offset + 8)
        try Self.expect([.refcountTooLow: 1], saying: "reference count 1, but 2 users", lost: 1, in: fixture)
    }

    @Test func `A cluster that nothing uses is lost, which is no damage`() throws {
        var fixture = Self.fixture()
        fixture.set(UInt64(0), at: Qcow2Fixture.l2Offset)
        let audit = try Self.audit(fixture)
        #expect(audit.faults.total == 0)
        #expect(audit.lostClusterCount == 1 && audit.lostClusterPlaces == [Self.data])
    }

    @Test func `Metadata that lies over other metadata or data is damage, whatever the counts say`() throws {
        var fixture = Self.fixture()
        fixture.set(Self.copied | UInt64(Qcow2Fixture.l1Offset), at: Qcow2Fixture.l2Offset)
        Self.setRefcount(2, 3, &fixture)
        Self.setRefcount(0, 5, &fixture)
        try Self.expect([.overlap: 1, .copiedFlag: 1], saying: "holds an L1 table and guest data", in: fixture)
    }

    @Test func `A table that leads to itself is a loop`() throws {
        var fixture = Self.fixture()
        fixture.set(Self.copied | UInt64(Qcow2Fixture.l2Offset), at: Qcow2Fixture.l2Offset)
        try Self.expect(
            [.loop: 1, .overlap: 1, .refcountTooLow: 1], saying: "points to its own table", lost: 1, in: fixture)
        var l1 = Self.fixture(0)
        l1.set(Self.copied | UInt64(Qcow2Fixture.l1Offset), at: Qcow2Fixture.l1Offset)
        let audit = try Self.audit(l1)
        #expect(audit.faults.counts[.loop] == 2)
    }

    @Test func `An L2 table that one L1 table uses twice is damage`() throws {
        var fixture = Self.fixture()
        fixture.set(UInt32(2), at: 36)
        fixture.set(Self.copied | UInt64(Qcow2Fixture.l2Offset), at: Qcow2Fixture.l1Offset + 8)
        try Self.expect(
            [.usedTwice: 1, .refcountTooLow: 5], saying: "is used more than once by the L1 table", in: fixture)
    }

    @Test(
        arguments: [
            (1 << 40, .outsideFile, "outside the file's"), (0x00FF_FFFF_FFFF_FE00, .outsideFile, "outside the file's"),
            (1 << 3, .invalidEntry, "reserved bits"),
        ] as [(UInt64, AuditFault.Kind, String)])
    func `An L2 entry that cannot be right is damage`(entry: UInt64, kind: AuditFault.Kind, words: String) throws {
        var fixture = Self.fixture()
        fixture.set(entry, at: Qcow2Fixture.l2Offset)
        let found = try Self.audit(fixture)
        #expect(found.faults.counts[kind] == 1 && found.lostClusterCount == 1)
        #expect(found.faults.listed.contains { $0.kind == kind && $0.description.contains(words) })
    }

    @Test(
        arguments: [
            (1 << 40, .outsideFile, "outside the file's"), (0x200 | 1, .invalidEntry, "reserved bits"),
            (1 << 63, .invalidEntry, "points to no L2 table"),
        ] as [(UInt64, AuditFault.Kind, String)])
    func `An L1 entry that cannot be right is damage`(entry: UInt64, kind: AuditFault.Kind, words: String) throws {
        var fixture = Self.fixture()
        fixture.set(entry, at: Qcow2Fixture.l1Offset)
        let found = try Self.audit(fixture)
        #expect(found.faults.counts[kind] == 1, "\(found.faults.listed)")
        #expect(found.faults.listed.contains { $0.kind == kind && $0.description.contains(words) })
    }

    @Test func `The flag for clusters that are used once must fit the count`() throws {
        var fixture = Self.fixture()
        fixture.set(Self.data, at: Qcow2Fixture.l2Offset)
        fixture.set(UInt64(Qcow2Fixture.l2Offset), at: Qcow2Fixture.l1Offset)
        try Self.expect([.copiedFlag: 2], saying: "is not marked as used once", in: fixture)
    }

    @Test func `Entries of the refcount table that cannot be right are damage`() throws {
        var fixture = Self.fixture()
        fixture.set(UInt64(1 << 40), at: 512 + 8)
        fixture.set(UInt64(1025), at: 512 + 16)
        try Self.expect(
            [.outsideFile: 1, .invalidEntry: 1], saying: "refcount table entry at byte 520", in: fixture)
    }

    @Test(arguments: 0...6)
    func `Reference counts of every width are read`(order: Int) throws {
        var fixture = Self.fixture()
        fixture.set(UInt32(order), at: 96)
        fixture.bytes.replaceSubrange(1024..<1536, with: [UInt8](repeating: 0, count: 512))
        let bits = 1 << order
        for cluster in 0..<9 {
            // Big-endian when wider than a byte, from the low bits of a byte when narrower.
            let byte = bits < 8 ? cluster * bits / 8 : (cluster + 1) * bits / 8 - 1
            fixture.bytes[1024 + byte] |= 1 << UInt8(bits < 8 ? cluster * bits % 8 : 0)
        }
        let audit = try Self.audit(fixture)
        #expect(audit.faults.total == 0 && audit.lostClusterCount == 0, "\(audit.faults.listed)")
    }

    @Test func `Compressed clusters are counted with their places`() throws {
        var fixture = Self.fixture()
        // Two in one cluster of the file, one sector each.
        fixture.set(1 << 62 | Self.data, at: Qcow2Fixture.l2Offset)
        fixture.set(1 << 62 | (Self.data + 100), at: Qcow2Fixture.l2Offset + 8)
        Self.setRefcount(2, 5, &fixture)
        Self.setRefcount(0, 6, &fixture)
        let audit = try Self.audit(fixture)
        #expect(audit.faults.total == 0, "\(audit.faults.listed)")
        #expect(audit.compressedClusterCount == 2)
        #expect(audit.compressedClusterPlaces == [Self.data, Self.data + 100])
    }

    @Test func `All faults are counted, a hundred are kept`() throws {
        var fixture = Qcow2Fixture(entries: [UInt64](repeating: Self.copied | 1 << 40, count: 64))
        for entry in 0..<64 { fixture.set(1 << 40 | 2 as UInt64, at: Qcow2Fixture.l2Offset + 8 * entry) }
        let audit = try Self.audit(fixture)
        #expect(audit.faults.counts[.outsideFile] == 64 && audit.faults.counts[.invalidEntry] == 64)
        #expect(audit.faults.listed.count == AuditFaults.maximumListed && audit.faults.total > 100)
    }

    @Test(arguments: [0, 1, 2, 3, 5])
    func `Counting in small windows gives the same result`(bits: Int) throws {
        var fixture = Self.fixture(20)
        fixture.set(Self.copied | Self.data, at: Qcow2Fixture.l2Offset + 8)
        fixture.set(Self.copied | UInt64(Qcow2Fixture.l1Offset), at: Qcow2Fixture.l2Offset + 16)
        fixture.set(UInt64(0), at: Qcow2Fixture.l2Offset + 24)
        Self.setRefcount(9, 12, &fixture)
        let whole = try Self.audit(fixture)
        let pieces = try Self.audit(fixture, limits: Qcow2AuditLimits(windowBits: bits))
        #expect(whole.faults.counts == pieces.faults.counts && whole.faults.total > 3)
        #expect(Set(whole.faults.listed.map(\.description)) == Set(pieces.faults.listed.map(\.description)))
        #expect(whole.lostClusterPlaces == pieces.lostClusterPlaces && whole.lostClusterCount == 4)
        #expect(whole.maps.map(\.cells) == pieces.maps.map(\.cells) && whole.maps.map(\.faultCount).max() ?? 0 > 0)
        for cell in whole.maps.flatMap(\.cells) {
            #expect(AuditMap.Kind.allCases.reduce(0) { $0 + cell[$1] } == cell.range.length)
        }
    }

    @Test func `A table that cannot be read is a fault, and nothing is called lost`() throws {
        let fixture = Self.fixture()
        let device = fixture.device
        let header = try #require(try Qcow2Header(device: device))
        device.faults.unreadableByte = UInt64(Qcow2Fixture.l2Offset + 100)
        let audit = Qcow2Audit(file: device, header: header)
        #expect(audit.faults.counts == [.unreadable: 1])
        #expect(audit.lostClusterCount == 0 && !audit.isComplete)
    }

    @Test func `The part that is done never falls, and ends at 1`() throws {
        let fixture = Self.fixture(20)
        let header = try #require(try fixture.header())
        var parts: [Double] = []
        _ = Qcow2Audit(file: fixture.device, header: header, limits: Qcow2AuditLimits(windowBits: 2)) {
            parts.append($0)
        }
        #expect(parts.first == 0 && parts.last == 1)
        #expect(parts == parts.sorted() && parts.count > 3)
    }

    @Test func `An image that asks for more work than allowed is not examined to the end`() throws {
        let audit = try Self.audit(Self.fixture(20), limits: Qcow2AuditLimits(work: 600))
        #expect(!audit.isComplete && audit.incompleteness?.contains("more work") == true)
        #expect(audit.lostClusterCount == 0)
        let tables = try Self.audit(Self.fixture(20), limits: Qcow2AuditLimits(windowBits: 1, windowCount: 3))
        #expect(tables.incompleteness?.contains("too many places") == true)
    }

    // MARK: Snapshots and bitmaps

    /// With a snapshot that shares everything, behind the data: its L1 table, then the snapshot table.
    private static func snapshotFixture() -> Qcow2Fixture {
        var fixture = fixture()
        var table: [UInt8] = []
        table.append(bigEndian: UInt64(9 * 512))
        table.append(bigEndian: UInt32(1))
        table.append(bigEndian: UInt16(1))
        table.append(bigEndian: UInt16(4))
        table += [UInt8](repeating: 0, count: 16 + 4)
        table.append(bigEndian: UInt32(16))
        table.append(bigEndian: UInt64(0))
        table.append(bigEndian: UInt64(64 * 512))
        table += Array("1snap".utf8)
        fixture.bytes += [UInt8](repeating: 0, count: 512) + table + [UInt8](repeating: 0, count: 512 - table.count)
        fixture.set(UInt64(Qcow2Fixture.l2Offset), at: 9 * 512)
        fixture.set(UInt32(1), at: 60)
        fixture.set(UInt64(10 * 512), at: 64)
        for cluster in 9...10 { setRefcount(1, cluster, &fixture) }
        for cluster in 4...8 { setRefcount(2, cluster, &fixture) }
        fixture.set(UInt64(Qcow2Fixture.l2Offset), at: Qcow2Fixture.l1Offset)
        for index in 0..<4 { fixture.set(data + UInt64(index) * 512, at: Qcow2Fixture.l2Offset + 8 * index) }
        return fixture
    }

    @Test func `Snapshots share tables and data`() throws {
        let audit = try Self.audit(Self.snapshotFixture())
        #expect(audit.faults.total == 0 && audit.lostClusterCount == 0, "\(audit.faults.listed)")
    }

    @Test func `A snapshot with a damaged L1 table does not hide the rest`() throws {
        var fixture = Self.snapshotFixture()
        fixture.set(UInt64(9 * 512 + 8), at: 10 * 512)
        try Self.expect(
            [.misaligned: 1], saying: "the L1 table of snapshot 0 is at byte 4616", lost: 6, in: fixture)
        var shared = Self.snapshotFixture()
        shared.set(UInt64(Qcow2Fixture.l1Offset), at: 10 * 512)
        try Self.expect(
            [.overlap: 1, .refcountTooLow: 1], saying: "holds an L1 table twice", lost: 1, in: shared)
        var cut = Self.snapshotFixture()
        cut.set(UInt32(2000), at: 10 * 512 + 36)
        let audit = try Self.audit(cut)
        #expect(audit.faults.counts == [.header: 1] && !audit.isComplete && audit.lostClusterCount == 0)
    }

    @Test func `Bitmaps use clusters, unless the image says that they are out of date`() throws {
        var fixture = Self.fixture()
        var data: [UInt8] = []
        data.append(bigEndian: UInt32(1))
        data.append(bigEndian: UInt32(0))
        data.append(bigEndian: UInt64(32))
        data.append(bigEndian: UInt64(9 * 512))
        fixture.addExtension(0x2385_2875, data)
        fixture.set(UInt64(1), at: 88)
        var directory: [UInt8] = []
        directory.append(bigEndian: UInt64(10 * 512))
        directory.append(bigEndian: UInt32(2))
        directory += [UInt8](repeating: 0, count: 4) + [1, 16]
        directory.append(bigEndian: UInt16(4))
        directory.append(bigEndian: UInt32(0))
        directory += Array("name".utf8)
        fixture.bytes += directory + [UInt8](repeating: 0, count: 3 * 512 - directory.count)
        fixture.set(UInt64(11 * 512), at: 10 * 512)
        fixture.set(UInt64(1), at: 10 * 512 + 8)
        for cluster in 9...11 { Self.setRefcount(1, cluster, &fixture) }
        #expect(try Self.audit(fixture).faults.total == 0)
        #expect(try Self.audit(fixture).lostClusterCount == 0)
        fixture.set(UInt64(11 * 512 + 1), at: 10 * 512)
        try Self.expect([.invalidEntry: 1], saying: "the bitmap table entry at byte 5120", lost: 1, in: fixture)
        fixture.set(UInt64(0), at: 88)
        #expect(try Self.audit(fixture).lostClusterCount == 3)
    }

    // MARK: Claims

    /// Audits an image in a file that is zeros behind its start.
    private static func sparse(_ fixture: Qcow2Fixture, work: UInt64) throws -> Qcow2Audit {
        let device = SparseDevice(start: fixture.bytes, size: 1 << 40)
        let header = try #require(try Qcow2Header(device: device))
        return Qcow2Audit(file: device, header: header, limits: Qcow2AuditLimits(work: work))
    }

    @Test func `The clusters of a LUKS header area count towards the work`() throws {
        var fixture = Self.fixture(0)
        fixture.set(UInt32(2), at: 32)
        var data: [UInt8] = []
        data.append(bigEndian: UInt64(1 << 20))
        // 2 Mi clusters.
        data.append(bigEndian: UInt64(1 << 30))
        fixture.addExtension(0x0537_be77, data)
        #expect(try Self.sparse(fixture, work: 32 << 20).isComplete)
        let bounded = try Self.sparse(fixture, work: 16 << 20)
        #expect(bounded.incompleteness?.contains("more work") == true)
    }

    @Test func `Tables of snapshots that lie over each other count towards the work each`() throws {
        var fixture = Self.fixture(0)
        var table: [UInt8] = []
        for _ in 0..<200 {
            table.append(bigEndian: UInt64(1 << 30))
            // 4 MiB, 8192 clusters; all of them read one table, once.
            table.append(bigEndian: UInt32(1 << 19))
            table += [UInt8](repeating: 0, count: 28)
        }
        let place = fixture.bytes.count
        fixture.bytes += table
        fixture.set(UInt32(200), at: 60)
        fixture.set(UInt64(place), at: 64)
        #expect(try Self.sparse(fixture, work: 32 << 20).isComplete)
        let bounded = try Self.sparse(fixture, work: 12 << 20)
        #expect(bounded.incompleteness?.contains("more work") == true)
    }

    @Test func `Bitmap tables count towards the work, and so does looking at each`() throws {
        var fixture = Self.fixture(0)
        var directory: [UInt8] = []
        for _ in 0..<1000 {
            directory.append(bigEndian: UInt64(1 << 30))
            directory.append(bigEndian: UInt32(64))
            directory += [UInt8](repeating: 0, count: 12)
        }
        let place = fixture.bytes.count
        fixture.bytes += directory
        var data: [UInt8] = []
        data.append(bigEndian: UInt32(1000))
        data.append(bigEndian: UInt32(0))
        data.append(bigEndian: UInt64(directory.count))
        data.append(bigEndian: UInt64(place))
        fixture.addExtension(0x2385_2875, data)
        fixture.set(UInt64(1), at: 88)
        // The tables are 512,000 bytes, their clusters 10,000, and each table is looked at.
        #expect(try Self.sparse(fixture, work: 640_000).isComplete)
        let bounded = try Self.sparse(fixture, work: 560_000)
        #expect(bounded.incompleteness?.contains("more work") == true)
    }

    @Test func `A file that claims to be exabytes ends soon`() throws {
        var fixture = Self.fixture()
        for index in 0..<64 {
            // One cluster in each of 64 places far apart.
            fixture.set(Self.copied | UInt64(index + 1) << 49, at: Qcow2Fixture.l2Offset + 8 * index)
        }
        let device = SparseDevice(start: fixture.bytes, size: 1 << 62)
        let header = try #require(try Qcow2Header(device: device))
        let audit = Qcow2Audit(file: device, header: header, limits: Qcow2AuditLimits(windowBits: 12))
        #expect(audit.faults.counts == [.refcountTooLow: 64, .copiedFlag: 64] && audit.isComplete)
        let bounded = Qcow2Audit(file: device, header: header, limits: Qcow2AuditLimits(windowBits: 12, work: 500_000))
        #expect(!bounded.isComplete)
    }
}

/// A start, then zeros.
private final class SparseDevice: ReadOnlyDevice {
    let depth = 8
    let size: UInt64
    let alignment = 1
    private let start: [UInt8]

    init(start: [UInt8], size: UInt64) {
        self.start = start
        self.size = size
    }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "sparse")
        buffer.clear()
        guard offset < UInt64(start.count) else { return }
        let range = Int(offset)..<min(start.count, Int(offset) + buffer.byteCount)
        start.withBytes { buffer.copy(from: $0.extracting(range)) }
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) {}
}
