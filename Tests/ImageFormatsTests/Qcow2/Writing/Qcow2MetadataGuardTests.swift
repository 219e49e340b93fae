// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Subprocess
import TestSupport
import Testing

@testable import ImageFormats

/// Entries and counts of a damaged image lead to its own metadata.
@Suite struct Qcow2MetadataGuardTests {
    private static let copied: UInt64 = 1 << 63

    /// Images that have metadata of every kind among them.
    static let shapes = [
        Qcow2Shape(clusterSize: 4096), Qcow2Shape(clusterSize: 4096, variant: .snapshot),
        Qcow2Shape(clusterSize: 4096, encryption: .luks), Qcow2Shape(clusterSize: 16384, variant: .extendedL2),
    ]

    /// Where metadata is: the first byte of a cluster of each kind, found without the library.
    private func places(_ bytes: [UInt8]) -> [(kind: String, place: UInt64)] {
        func word(_ offset: UInt64) -> UInt64 { bytes.withBytes { $0.bigEndianWord(at: Int(offset)) } }
        let mask: UInt64 = 0x00FF_FFFF_FFFF_FE00
        var places: [(String, UInt64)] = [
            ("header", 0), ("L1 table", word(40)), ("refcount table", word(48)), ("refcount block", word(word(48))),
        ]
        func addTable(_ l1: UInt64, _ name: String) {
            let entry = (0..<2 as Range<UInt64>).map { word(l1 + $0 * 8) & mask }.first { $0 != 0 }
            if let entry { places.append((name, entry)) }
        }
        addTable(word(40), "L2 table")
        if word(60) >> 32 > 0 {
            let table = word(64)
            places += [("snapshot table", table), ("L1 table of a snapshot", word(table))]
            addTable(word(table), "L2 table of a snapshot")
        }
        // Header extensions.
        var place = word(96) & 0xFFFF_FFFF
        while word(place) >> 32 != 0 {
            let (type, length) = (word(place) >> 32, word(place) & 0xFFFF_FFFF)
            if type == 0x0537_BE77 { places.append(("LUKS header", word(place + 8))) }
            if type == 0x2385_2875 {
                let directory = word(place + 24)
                let table = word(directory)
                places += [("bitmap directory", directory), ("bitmap table", table), ("bitmap", word(table) & mask)]
            }
            place += 8 + (length + 7) / 8 * 8
        }
        return places
    }

    /// A cluster of the active disk whose L2 table it has for itself: its first byte, and where its entry is.
    private func victim(_ bytes: [UInt8]) throws -> (guest: UInt64, entry: Int) {
        let header = try #require(try Qcow2Header(device: MemoryDevice(bytes)))
        let mapping = header.mapping
        for index in 0..<mapping.l1EntryCount {
            let entry = bytes.withBytes { $0.bigEndianWord(at: Int(mapping.l1TableOffset) + index * 8) }
            guard entry & Self.copied != 0, let table = Qcow2Mapping.l2Table(l1Entry: entry) else { continue }
            return (UInt64(index) << UInt64(mapping.clusterBits + mapping.l2Bits), Int(table.bytes))
        }
        throw Qcow2Exercise.Difference(description: "no table of its own")
    }

    private func set(_ value: UInt64, at offset: Int, in bytes: inout [UInt8]) {
        var field: [UInt8] = []
        field.append(bigEndian: value)
        bytes.replaceSubrange(offset..<(offset + 8), with: field)
    }

    private func expectDamage(at place: UInt64, _ body: () throws -> Void) {
        let error = #expect(throws: BlockError.self) { try body() }
        #expect(error?.code == .damaged)
        let text = error?.description ?? ""
        #expect(text.contains("byte \(place) of the file holds tables") && text.contains("qemu-img check"), "\(text)")
    }

    // MARK: Entries

    /// No verb changes anything where an entry leads to metadata.
    private func checkEntries(_ image: Qcow2TestImage) throws -> Set<String> {
        let shape = image.shape
        var kinds: Set<String> = []
        for (kind, place) in places(image.bytes) {
            kinds.insert(kind)
            var bytes = image.bytes
            let (guest, entry) = try victim(bytes)
            set(Self.copied | place, at: entry, in: &bytes)
            if shape.variant == .extendedL2 { set(0xFFFF_FFFF, at: entry + 8, in: &bytes) }
            // A LUKS header that starts where clusters do is more than one of them.
            let file = RecordedFile(bytes)
            let disk = try image.open(file, nil)
            let cluster = try #require(ByteRange(offset: guest, length: UInt64(shape.clusterSize)))
            // Byte 0 of the file is no place of a cluster.
            guard place > 0 else { continue }
            expectDamage(at: place) { try disk.write([UInt8](repeating: 1, count: 512), at: guest + 512) }
            expectDamage(at: place) {
                try disk.write([UInt8](repeating: 1, count: shape.clusterSize), at: guest, .durable)
            }
            expectDamage(at: place) { try disk.zero(cluster, .mayDiscard) }
            expectDamage(at: place) { try disk.discard(cluster) }
            try disk.flush()
            #expect(file.bytes == bytes, "\(kind)")
        }
        return kinds
    }

    @Test func `what an entry leads to is not written when it is metadata`() async throws {
        var kinds: Set<String> = []
        for shape in Self.shapes {
            let image = try await Qcow2TestImage(shape, seed: 2)
            defer { image.remove() }
            kinds.formUnion(try checkEntries(image))
        }
        let bitmaps = try await bitmapImage()
        defer { bitmaps.remove() }
        kinds.formUnion(try checkEntries(bitmaps))
        #expect(kinds.count == 12, "\(kinds)")
    }

    /// With a bitmap that has bits, and does not go on with writes.
    private func bitmapImage() async throws -> Qcow2TestImage {
        try await Qcow2TestImage(Qcow2Shape(clusterSize: 4096), seed: 2) { file in
            for (name, arguments) in [
                ("qemu-img", ["bitmap", "--add", "-g", "65536", file, "b"]),
                ("qemu-io", ["-f", "qcow2", "-c", "write 0 64k", file]),
                ("qemu-img", ["bitmap", "--disable", file, "b"]),
            ] {
                let outcome = try await Subprocess.run(
                    .name(name), arguments: Arguments(arguments), output: .discarded, error: .discarded)
                #expect(outcome.terminationStatus == .exited(0), "\(name) \(arguments)")
            }
        }
    }

    @Test func `a compressed cluster that is said to lie in a table is not given up`() throws {
        var image = Qcow2Fixture(entries: [1 << 62 | UInt64(Qcow2Fixture.l1Offset)])
        image.set(UInt64(1024), at: 512)
        for cluster in 0..<5 { image.set(UInt16(1), at: 1024 + 2 * cluster) }
        let file = RecordedFile(image.bytes)
        let disk = try Qcow2Image(
            writing: file, header: try #require(try Qcow2Header(device: file)), cipher: nil)
        expectDamage(at: UInt64(Qcow2Fixture.l1Offset)) {
            try disk.discard(try #require(ByteRange(offset: 0, length: 512)))
        }
        try disk.flush()
        #expect(file.bytes == image.bytes)
    }

    // MARK: Counts

    @Test func `a cluster with the count 0 is not given out when it is metadata`() async throws {
        var images: [Qcow2TestImage] = []
        for shape in Self.shapes { images.append(try await Qcow2TestImage(shape, seed: 2)) }
        images.append(try await bitmapImage())
        defer { for image in images { image.remove() } }
        for image in images {
            let size = image.shape.clusterSize
            for (kind, place) in places(image.bytes) {
                var bytes = image.bytes
                let block = Int(places(bytes)[3].place)
                let count = block + Int(place) / size * 2
                bytes.replaceSubrange(count..<(count + 2), with: [0, 0])
                let file = RecordedFile(bytes)
                let disk = try image.open(file, nil)
                expectDamage(at: place) {
                    // Other clusters may be free, too.
                    for cluster in 0..<UInt64(image.shape.diskSize / size) {
                        try disk.write([UInt8](repeating: 1, count: size), at: cluster * UInt64(size))
                        try disk.discard(try #require(ByteRange(offset: cluster * UInt64(size), length: UInt64(size))))
                        if cluster % 2 == 0 { try disk.write([1], at: cluster * UInt64(size)) }
                    }
                }
                // The last cluster may be incomplete.
                let cluster = Int(place)..<min(Int(place) + size, bytes.count)
                #expect(file.bytes.hasSameBytes(cluster, as: bytes, at: cluster.lowerBound), "\(kind)")
            }
        }
    }

    // MARK: Tables that come and go

    @Test func `a table that was made meanwhile is not written over`() throws {
        // Cluster 5 is free, and the first entry leads there; the second L2 table will be put there.
        var image = Qcow2Fixture(size: 128 * 512, entries: [Self.copied | UInt64(Qcow2Fixture.dataOffset)])
        image.set(UInt64(1024), at: 512)
        image.set(UInt32(2), at: 36)
        for cluster in 0..<5 { image.set(UInt16(1), at: 1024 + 2 * cluster) }
        let file = RecordedFile(image.bytes)
        let disk = try Qcow2Image(
            writing: file, header: try #require(try Qcow2Header(device: file)), cipher: nil)
        try disk.write([UInt8](repeating: 1, count: 512), at: 64 * 512)
        expectDamage(at: UInt64(Qcow2Fixture.dataOffset)) {
            try disk.write([UInt8](repeating: 1, count: 512), at: 0)
        }
        expectDamage(at: UInt64(Qcow2Fixture.dataOffset)) {
            try disk.discard(try #require(ByteRange(offset: 0, length: 512)))
        }
        try disk.flush()
        #expect(try disk.read(count: 512, at: 64 * 512) == [UInt8](repeating: 1, count: 512))
    }

    @Test func `the place of a table that was given up is used again`() throws {
        // The L1 entry has no flag: the table is copied, and nobody else has the old one.
        var image = Qcow2Fixture()
        image.set(UInt64(Qcow2Fixture.l2Offset), at: Qcow2Fixture.l1Offset)
        image.set(UInt64(1024), at: 512)
        for cluster in 0..<5 { image.set(UInt16(1), at: 1024 + 2 * cluster) }
        let file = RecordedFile(image.bytes)
        let disk = try Qcow2Image(
            writing: file, header: try #require(try Qcow2Header(device: file)), cipher: nil)
        for cluster in 0..<8 as Range<UInt64> {
            try disk.write([UInt8](repeating: UInt8(cluster + 1), count: 512), at: cluster * 512)
            try disk.flush()
        }
        #expect((1...8).contains(file.bytes[Qcow2Fixture.l2Offset]))
        let copy = MemoryDevice(file.bytes)
        let audit = Qcow2Audit(file: copy, header: try #require(try Qcow2Header(device: copy)))
        #expect(audit.faults.total == 0 && audit.lostClusterCount == 0)
    }

    // MARK: At opening

    private func refusal(_ image: Qcow2Fixture, _ limits: Qcow2MetadataSurvey.Limits = .init()) throws -> FormatError? {
        let header = try #require(try image.header())
        do throws(FormatError) {
            _ = try Qcow2MetadataSurvey(image.device, header, limits)
            return nil
        } catch { return error }
    }

    @Test func `an image whose tables lie over each other is not opened for writing`() throws {
        var sound = Qcow2Fixture()
        sound.set(UInt64(1024), at: 512)
        #expect(try refusal(sound) == nil)
        for place in [512, 1024, UInt64(Qcow2Fixture.l1Offset)] {
            var image = sound
            image.set(Self.copied | place, at: Qcow2Fixture.l1Offset)
            let error = try refusal(image)
            #expect(error?.code == .damaged)
            #expect(error?.sentence.description.contains("byte \(place)") == true)
        }
        // Two entries of the L1 table, or of the refcount table, with one table.
        var twice = sound
        twice.set(UInt32(2), at: 36)
        twice.set(UInt64(Qcow2Fixture.l2Offset), at: Qcow2Fixture.l1Offset + 8)
        #expect(try refusal(twice)?.code == .damaged)
        var blocks = sound
        blocks.set(UInt64(1024), at: 512 + 8)
        #expect(try refusal(blocks)?.code == .damaged)
    }

    @Test func `an image with too many tables is refused by name`() throws {
        var image = Qcow2Fixture()
        image.set(UInt64(1024), at: 512)
        for limits in [Qcow2MetadataSurvey.Limits(runCount: 0), .init(tableBytes: 8)] {
            let error = try refusal(image, limits)
            #expect(error?.code == .unsupported)
            #expect(error?.sentence.description.contains("too many to guard") == true, "\(error as Any)")
        }
    }
}
