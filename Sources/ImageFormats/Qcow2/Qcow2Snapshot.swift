// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// An internal snapshot of a qcow2 image: a state of the disk that the image keeps.
///
/// Source: qcow2 specification, "Snapshots".
public struct Qcow2Snapshot: Equatable, Sendable {
    /// A number as text, by which QEMU and people name it; printable.
    public let id: String
    /// Printable.
    public let name: String
    /// Seconds since 1970.
    public let date: UInt32
    /// In bytes; not 0 when the state of a running machine was kept, too.
    public let vmStateSize: UInt64
    /// How the disk of the snapshot is found.
    public let mapping: Qcow2Mapping

    /// At most so many, as in QEMU.
    public static let maximumCount: UInt32 = 65536
    /// All entries together, in bytes; QEMU allows as much for an image.
    private static let maximumTableSize: UInt64 = 64 << 20
    private static let fixedLength = 40
    private static let maximumExtraLength: UInt32 = 1024

    /// Reads the snapshot table.
    ///
    /// - Parameter device: holds `header`.
    /// - Throws: ``FormatError`` when an entry cannot be right, or when the table is larger than 64 MiB.
    public static func all(of device: any BlockDevice, _ header: Qcow2Header) throws(FormatError) -> [Qcow2Snapshot] {
        try table(of: device, header).snapshots
    }

    /// The same, and how long the table is, in bytes.
    static func table(
        of device: any BlockDevice, _ header: Qcow2Header
    ) throws(FormatError) -> (snapshots: [Qcow2Snapshot], length: UInt64) {
        var snapshots: [Qcow2Snapshot] = []
        guard header.snapshotCount > 0 else { return (snapshots, 0) }
        var offset = header.snapshotTableOffset
        for index in 0..<Int(header.snapshotCount) {
            guard offset - header.snapshotTableOffset <= maximumTableSize else {
                throw .damaged(
                    "qcow2 snapshot table", at: header.snapshotTableOffset,
                    found: "more than \(maximumTableSize) bytes for \(index) of \(header.snapshotCount) snapshots",
                    allowed: "at most \(maximumTableSize)")
            }
            let (snapshot, length) = try read(device, header, index, at: offset)
            snapshots.append(snapshot)
            offset += length
        }
        return (snapshots, offset - header.snapshotTableOffset)
    }

    private static func read(
        _ device: any BlockDevice, _ header: Qcow2Header, _ index: Int, at offset: UInt64
    ) throws(FormatError) -> (snapshot: Qcow2Snapshot, length: UInt64) {
        let what = "qcow2 snapshot table: entry \(index)"
        let fixed = try bytes(device, at: offset, count: fixedLength, what)
        var reader = ByteReader(fixed)
        let l1TableOffset = reader.integer(UInt64.self) ?? 0
        let l1EntryCount = reader.integer(UInt32.self) ?? 0
        let idLength = Int(reader.integer(UInt16.self) ?? 0)
        let nameLength = Int(reader.integer(UInt16.self) ?? 0)
        let date = reader.integer(UInt32.self) ?? 0
        _ = reader.take(4 + 8)  // nanoseconds, time of the guest's clock
        let shortVMStateSize = reader.integer(UInt32.self) ?? 0
        let extraLength = reader.integer(UInt32.self) ?? 0
        guard extraLength <= maximumExtraLength else {
            throw .damaged(
                "\(what): extra_data_size", at: offset + 36, found: extraLength,
                allowed: "at most \(maximumExtraLength)")
        }
        let rest = try bytes(
            device, at: offset + UInt64(fixedLength), count: Int(extraLength) + idLength + nameLength, what)
        var extra = ByteReader(rest[..<Int(extraLength)])
        let vmStateSize = extra.integer(UInt64.self) ?? UInt64(shortVMStateSize)
        // A snapshot of before the field was known has the size that the image has now.
        let size = extra.integer(UInt64.self) ?? header.size
        let id = ShownText.name(rest.dropFirst(Int(extraLength)).prefix(idLength))
        let name = ShownText.name(rest.suffix(nameLength))
        let mapping = header.mapping(l1TableOffset: l1TableOffset, l1EntryCount: Int(l1EntryCount), size: size)
        try check(mapping, size: size, "\(what) (\(name))", at: offset, fileSize: device.size)
        let length = (UInt64(fixedLength) + UInt64(rest.count) + 7) / 8 * 8
        return (Qcow2Snapshot(id: id, name: name, date: date, vmStateSize: vmStateSize, mapping: mapping), length)
    }

    private static func check(
        _ mapping: Qcow2Mapping, size: UInt64, _ what: String, at offset: UInt64, fileSize: UInt64
    ) throws(FormatError) {
        let maximum = Int(Qcow2Header.maximumL1EntryCount)
        let needed = mapping.l1EntriesNeeded(for: size)
        guard mapping.l1EntryCount <= maximum, needed <= UInt64(mapping.l1EntryCount) else {
            throw .damaged(
                "\(what): l1_size", at: offset + 8, found: "\(mapping.l1EntryCount) entries",
                allowed: "\(needed) to \(maximum) for a disk of \(size) bytes")
        }
        guard mapping.l1TableOffset % mapping.clusterSize == 0,
            let table = ByteRange(offset: mapping.l1TableOffset, length: UInt64(mapping.l1EntryCount) * 8),
            table.fits(fileSize)
        else {
            throw .damaged(
                "\(what): l1_table_offset", at: offset,
                found: "\(mapping.l1EntryCount) entries at \(mapping.l1TableOffset)",
                allowed: "a table at the start of a cluster within the file's \(fileSize) bytes")
        }
    }

    private static func bytes(
        _ device: any BlockDevice, at offset: UInt64, count: Int, _ what: String
    ) throws(FormatError) -> [UInt8] {
        guard let range = ByteRange(offset: offset, length: UInt64(count)), range.fits(device.size) else {
            throw .damaged(
                what, at: offset, found: "\(count) bytes beyond the end", allowed: "entries within \(device.size) bytes"
            )
        }
        do { return try device.read(count: count, at: offset) } catch { throw .unreadable("\(error)") }
    }
}
