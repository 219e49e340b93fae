// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Subprocess
import TestSupport
import Testing

@testable import ImageFormats

/// Reference counts that are not what they should be, put right and judged by qemu-img.
@Suite struct Qcow2RepairTests {
    /// Cluster sizes, sizes of counts, and all that has clusters.
    static let shapes: [Qcow2Shape] = {
        var shapes = [512, 4096, 65536, 2 << 20].map { Qcow2Shape(clusterSize: $0) }
        shapes += [1, 4, 64].map { Qcow2Shape(clusterSize: 512, refcountBits: $0) }
        shapes += [Qcow2Shape(clusterSize: 4096, refcountBits: 1, variant: .compressed)]
        for variant in [Qcow2Shape.Variant.snapshot, .compressed, .backing, .extendedL2, .dataFile, .rawDataFile] {
            for encryption in [Qcow2Shape.Encryption.none, .luks] {
                let size = variant == .extendedL2 ? 16384 : 4096
                shapes.append(Qcow2Shape(clusterSize: size, encryption: encryption, variant: variant))
            }
        }
        shapes.append(Qcow2Shape(clusterSize: 512, refcountBits: 8, variant: .snapshot))
        return shapes
    }()

    private static func repair(
        _ file: any GrowableDevice, dataFile: [UInt8]? = nil, windowBits: Int = 23
    ) throws -> Qcow2Repair? {
        let header = try #require(try Qcow2Header(device: file))
        return try Qcow2Repair(
            file: file, header: header, dataFileSize: dataFile.map { UInt64($0.count) },
            limits: Qcow2AuditLimits(windowBits: windowBits))
    }

    @Test(arguments: shapes)
    func `counts and flags become what qemu-img makes of them`(shape: Qcow2Shape) async throws {
        let image = try await Qcow2TestImage(shape, seed: 4)
        defer { image.remove() }
        for seed in 1...4 as ClosedRange<UInt64> {
            let damaged = Qcow2CountDamage(image.bytes, seed: seed, losesBlock: seed > 2).bytes
            let file = RecordedFile(damaged)
            // In one window and in several.
            let repair = try #require(
                try Self.repair(file, dataFile: image.dataFile, windowBits: seed.isMultiple(of: 2) ? 4 : 23))
            #expect(repair.raisedCount + repair.loweredCount > 0)
            #expect((repair.blockCount > 0) == (seed > 2))
            try await judge(image, file.bytes)
            let other = try await image.repairedByQEMU(damaged, dataFile: image.dataFile)
            let compared = try await image.compare(file.bytes, other, dataFile: image.dataFile)
            #expect(compared.contains("Images are identical."), "\(compared)")
            #expect(try Self.repair(file) == nil, "nothing more is done")
        }
    }

    /// Nothing is wrong with the image, and nothing is lost.
    private func judge(_ image: Qcow2TestImage, _ bytes: [UInt8]) async throws {
        let check = try await image.check(bytes, dataFile: image.dataFile)
        #expect(check.code == 0 && check.text.contains("No errors were found"), "\(check.text)")
        let audit = try image.audit(bytes, dataFile: image.dataFile)
        #expect(audit.faults.listed == [] && audit.lostClusterCount == 0)
        #expect(bytes[79] & 1 == 0)
    }

    @Test(arguments: [false, true], [512, 65536])
    func `an image that QEMU left behind when it was killed is repaired`(isFlushed: Bool, size: Int) async throws {
        let image = try await Qcow2TestImage(Qcow2Shape(clusterSize: size), seed: 4) { file in
            for arguments in [
                ["qemu-img", "amend", "-f", "qcow2", "-o", "lazy_refcounts=on", file],
                ["qemu-io", "-f", "qcow2", "-c", "write -P 9 0 100k", "-c", "discard 0 64k"]
                    + (isFlushed ? ["-c", "flush"] : []) + ["-c", "write -P 8 8k 50k", "-c", "sigraise 9", file],
            ] {
                _ = try await Subprocess.run(
                    .name(arguments[0]), arguments: Arguments(Array(arguments.dropFirst())), output: .discarded,
                    error: .discarded)
            }
        }
        defer { image.remove() }
        try #require(image.bytes[79] & 1 == 1, "it is dirty")
        let file = RecordedFile(image.bytes)
        let repair = try #require(try Self.repair(file))
        #expect("\(repair.sentence)".contains("the dirty bit is cleared"))
        try await judge(image, file.bytes)
        let other = try await image.repairedByQEMU(image.bytes, dataFile: nil)
        #expect(try await image.compare(file.bytes, other, dataFile: nil).contains("Images are identical."))
        // It can be written to now.
        let disk = try image.open(file, nil)
        try disk.write([UInt8](repeating: 1, count: 512), at: 1024)
        try disk.flush()
        #expect(try await image.check(file.bytes, dataFile: nil).code == 0)
    }

    @Test func `an image that only says that it is dirty is said to be in order`() async throws {
        let image = try await Qcow2TestImage(Qcow2Shape(clusterSize: 4096), seed: 4)
        defer { image.remove() }
        var bytes = image.bytes
        #expect(try Self.repair(RecordedFile(bytes)) == nil)
        bytes[79] |= 1
        let file = RecordedFile(bytes)
        file.record.start()
        let repair = try #require(try Self.repair(file))
        #expect("\(repair.sentence)".contains("nothing was wrong: the dirty bit is cleared"))
        #expect(file.bytes == image.bytes)
        #expect(file.events.count == 3, "a flush, the bit, a flush")
    }

    @Test func `autoclear bits of others are cleared first`() async throws {
        let image = try await Qcow2TestImage(Qcow2Shape(clusterSize: 4096), seed: 4)
        defer { image.remove() }
        var bytes = image.bytes
        bytes[79] |= 1
        bytes[95] |= 0xF0
        let file = RecordedFile(bytes)
        file.record.start()
        _ = try Self.repair(file)
        #expect(file.bytes == image.bytes)
        guard case .write(88, _) = file.events[0], case .flush = file.events[1] else {
            Issue.record("not the first")
            return
        }
    }

    @Test func `a refcount table that is too short becomes longer`() throws {
        // 64 counts in a block, 64 blocks in a table of one cluster: 2 MiB.
        let fixture = try Qcow2WritableFixture(clusterBits: 9, size: 8 << 20, refcountOrder: 6)
        for place in stride(from: 0, to: 5 << 20, by: 1 << 16) {
            try fixture.disk.write([UInt8](repeating: UInt8(place >> 16) + 1, count: 1 << 16), at: UInt64(place))
        }
        try fixture.disk.flush()
        var bytes = fixture.file.bytes
        bytes[59] = 1
        bytes[79] = 1
        let file = RecordedFile(bytes)
        let repair = try #require(try Self.repair(file))
        #expect(repair.blockCount > 64 && repair.raisedCount > 4096)
        let copy = MemoryDevice(file.bytes)
        let audit = Qcow2Audit(file: copy, header: try #require(try Qcow2Header(device: copy)))
        #expect(audit.faults.listed == [] && audit.lostClusterCount == 0)
        let disk = Qcow2Image(file: copy, header: try #require(try Qcow2Header(device: copy)), cipher: nil)
        for place in stride(from: 0, to: 5 << 20, by: 1 << 16) {
            #expect(try disk.read(count: 512, at: UInt64(place)).first == UInt8(place >> 16) + 1)
        }
    }

    // MARK: Refusals

    private static let copied: UInt64 = 1 << 63
    private static let data = UInt64(Qcow2Fixture.dataOffset)

    /// A dirty image with four clusters of data, and no count.
    private static func fixture() -> Qcow2Fixture {
        var image = Qcow2Fixture(
            entries: (0..<4).map { copied | (data + $0 * 512) }, data: [UInt8](repeating: 1, count: 4 * 512))
        image.set(UInt64(1024), at: 512)
        image.set(UInt64(1), at: 72)
        return image
    }

    @Test func `what no count mends is refused, and nothing is changed`() throws {
        #expect(try Self.repair(RecordedFile(Self.fixture().bytes))?.raisedCount == 9)
        let entry = Qcow2Fixture.l2Offset
        let cases: [(String, (inout Qcow2Fixture) -> Void)] = [
            ("belongs to two entries", { $0.set(Self.copied | Self.data, at: entry + 8) }),
            ("belongs to two entries", { $0.set(Self.data, at: entry + 8) }),
            ("outside the file's", { $0.set(Self.copied | 1 << 30, at: entry) }),
            ("holds an L1 table and guest data", { $0.set(Self.copied | UInt64(Qcow2Fixture.l1Offset), at: entry) }),
            ("reserved bits", { $0.set(Self.copied | Self.data | 4, at: entry) }),
            ("outside the file's", { $0.set(Self.copied | 1 << 30, at: Qcow2Fixture.l1Offset) }),
            ("outside the file's", { $0.set(UInt64(1 << 30), at: 512 + 8) }),
            ("corrupt bit", { $0.set(UInt64(3), at: 72) }),
            ("features that nbdecrypt does not know", { $0.set(UInt64(1 | 1 << 40), at: 72) }),
        ]
        for (words, damage) in cases {
            var image = Self.fixture()
            damage(&image)
            let file = RecordedFile(image.bytes)
            let error = #expect(throws: FormatError.self) { try Self.repair(file) }
            #expect(error?.sentence.description.contains(words) == true, "\(words): \(error as Any)")
            #expect(file.bytes == image.bytes, "\(words)")
        }
    }

    @Test func `a count that has too few bits is refused`() throws {
        var image = Self.fixture()
        image.set(UInt32(0), at: 96)
        // Two compressed clusters in one of the file.
        image.set(1 << 62 | Self.data, at: Qcow2Fixture.l2Offset)
        image.set(1 << 62 | (Self.data + 100), at: Qcow2Fixture.l2Offset + 8)
        let file = RecordedFile(image.bytes)
        let error = #expect(throws: FormatError.self) { try Self.repair(file) }
        #expect(error?.sentence.description.contains("has 2 users, and its count cannot be more than 1") == true)
        #expect(file.bytes == image.bytes)
    }

    @Test func `an image is refused for writing with the remedy`() throws {
        let file = RecordedFile(Self.fixture().bytes)
        let header = try #require(try Qcow2Header(device: file))
        let error = #expect(throws: FormatError.self) { try Qcow2Support.checkWritable(header) }
        #expect(error?.sentence.description.contains("repairs rebuilds them") == true)
    }
}

/// Wrong counts and flags in an image that is said to be dirty.
struct Qcow2CountDamage {
    private(set) var bytes: [UInt8]

    /// - Parameter losesBlock: the first block of counts is gone.
    init(_ image: [UInt8], seed: UInt64, losesBlock: Bool) {
        bytes = image
        guard let header = (try? Qcow2Header(device: MemoryDevice(image))) ?? nil else { return }
        var random = SeededGenerator(seed: seed)
        bytes[79] |= 1
        let block = Int(word(Int(header.refcountTableOffset)))
        let layout = Qcow2RefcountBlock(header)
        let clusters = min(image.count >> header.clusterBits, 1 << layout.blockBits)
        var counts = Array(bytes[block..<(block + Int(header.clusterSize))])
        for _ in 0..<10 {
            let cluster = random.number(below: clusters)
            let count = UInt32(random.number(below: Int(min(layout.maximum, 9)) + 1))
            layout.set(count, in: &counts, atBit: cluster << layout.order)
        }
        // One that is always wrong.
        layout.set(0, in: &counts, atBit: 0)
        bytes.replaceSubrange(block..<(block + counts.count), with: counts)
        toggleFlags(header, &random)
        if losesBlock { set(0, at: Int(header.refcountTableOffset)) }
    }

    private mutating func toggleFlags(_ header: Qcow2Header, _ random: inout SeededGenerator) {
        let mapping = header.mapping
        for index in 0..<mapping.l1EntryCount {
            let place = Int(mapping.l1TableOffset) + index * 8
            guard let table = Qcow2Mapping.l2Table(l1Entry: word(place)) else { continue }
            if random.number(below: 2) == 0 { set(word(place) ^ 1 << 63, at: place) }
            for entry in 0..<(1 << mapping.l2Bits) where random.number(below: 8) == 0 {
                let place = Int(table.bytes) + entry << (3 + mapping.entryWordBits)
                // In a data file, it alone tells that there is a cluster at byte 0.
                guard Qcow2Mapping.l2Table(l1Entry: word(place)) != nil, word(place) >> 62 & 1 == 0 else { continue }
                set(word(place) ^ 1 << 63, at: place)
            }
        }
    }

    private func word(_ place: Int) -> UInt64 { bytes.withBytes { $0.bigEndianWord(at: place) } }

    private mutating func set(_ word: UInt64, at place: Int) {
        var field: [UInt8] = []
        field.append(bigEndian: word)
        bytes.replaceSubrange(place..<(place + 8), with: field)
    }
}
