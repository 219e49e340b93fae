// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// An entry of the bitmap directory.
///
/// Source: qcow2 specification, "Bitmap directory"; limits as in QEMU's block/qcow2-bitmap.c.
struct Qcow2BitmapEntry {
    /// In bytes.
    let tableOffset: UInt64
    /// In entries of 8 bytes.
    let tableEntryCount: UInt32
    /// A bit stands for 2^this bytes of the disk.
    let granularityBits: UInt8
    /// Printable.
    let name: String
    /// How long the entry is, with its padding.
    let length: UInt64

    /// What messages call it.
    private let title: String
    /// Where in the file it is.
    private let place: UInt64
    private let flags: UInt32
    private let type: UInt8
    private let extraLength: UInt32
    private let hasPrintableName: Bool

    /// The fixed part in bytes.
    static let fixedLength: UInt64 = 24
    private static let maximumNameLength = 1023
    private static let maximumTableEntryCount: UInt32 = 0x800_0000
    /// All clusters of a bitmap, in bytes.
    private static let maximumSize: UInt64 = 0x2000_0000
    private static let granularities: ClosedRange<UInt8> = 9...31

    /// The bitmap was not saved.
    var isInUse: Bool { flags & 1 == 1 }
    /// The flags of the bitmap when it is not saved.
    var flagsInUse: UInt32 { flags | 1 }
    /// The bitmap goes on with every write.
    var isAutomatic: Bool { flags & 2 == 2 }
    private var allowsUnknownExtraData: Bool { flags & 4 == 4 }
    private var unknownFlags: UInt32 { flags & ~7 }

    /// Reads the entry at `place` of a directory that ends at `end`, which is within the file.
    ///
    /// - Throws: ``FormatError`` when it has no name, or does not fit the directory: where the next one is, nobody knows.
    init(_ file: any BlockDevice, _ index: Int, at place: UInt64, end: UInt64) throws(FormatError) {
        let what = "qcow2 bitmap directory: entry \(index)"
        guard end - place >= Self.fixedLength else {
            throw .damaged(what, at: place, found: "\(end - place) bytes", allowed: "at least \(Self.fixedLength)")
        }
        var reader = ByteReader(try Self.read(file, at: place, count: Int(Self.fixedLength)))
        tableOffset = reader.integer(UInt64.self) ?? 0
        tableEntryCount = reader.integer(UInt32.self) ?? 0
        flags = reader.integer(UInt32.self) ?? 0
        type = reader.integer(UInt8.self) ?? 0
        granularityBits = reader.integer(UInt8.self) ?? 0
        let nameLength = Int(reader.integer(UInt16.self) ?? 0)
        extraLength = reader.integer(UInt32.self) ?? 0
        length = (Self.fixedLength + UInt64(extraLength) + UInt64(nameLength) + 7) / 8 * 8
        guard length <= end - place else {
            throw .damaged(what, at: place, found: "\(length) bytes", allowed: "at most \(end - place)")
        }
        guard 1...Self.maximumNameLength ~= nameLength else {
            throw .damaged(
                "\(what): name_size", at: place + 18, found: nameLength, allowed: "1 to \(Self.maximumNameLength)")
        }
        let bytes = try Self.read(file, at: place + Self.fixedLength + UInt64(extraLength), count: nameLength)
        name = ShownText.name(bytes)
        hasPrintableName = Array(name.utf8) == bytes
        self.place = place
        title = "qcow2 bitmap '\(name)'"
    }

    private static func read(_ file: any BlockDevice, at offset: UInt64, count: Int) throws(FormatError) -> [UInt8] {
        do { return try file.read(count: count, at: offset) } catch { throw .unreadable("\(error)") }
    }

    /// Why the bitmap cannot be used; nil when it can.
    func refusal(_ header: Qcow2Header, fileSize: UInt64) -> FormatError? {
        unsupported ?? unsaved(header) ?? damage(header, fileSize: fileSize)
    }

    private var unsupported: FormatError? {
        var reason: String?
        if type != 1 {
            reason = "is of type \(type), and only type 1, a dirty bitmap, is known"
        } else if unknownFlags != 0 {
            reason = "has flags that nbdecrypt does not know: 0x\(String(unknownFlags, radix: 16))"
        } else if extraLength > 0, !allowsUnknownExtraData {
            reason = "has \(extraLength) bytes of extra data, without which it must not be used"
        } else if !(Self.granularities ~= granularityBits) {
            reason = "has bits for 2^\(granularityBits) bytes each, and only 2^9 to 2^31 are known"
        } else if !hasPrintableName {
            reason = "has a name that is not printable UTF-8"
        }
        return reason.map { .unsupported("\(title) \($0); use it with the program that made it, or make a full copy") }
    }

    private func unsaved(_ header: Qcow2Header) -> FormatError? {
        guard isInUse else { return nil }
        let command = QEMUImageCommand.text(
            "qemu-img bitmap --remove", ShellText.quoted(name), isEncrypted: header.encryption != .none)
        return .damaged(
            "\(title): flags", at: place + 12, found: "in_use", allowed: "a bitmap that was saved",
            advice: "the image was not closed properly, so that the bitmap misses changes: make a full copy instead; "
                + "\(command) removes it (in a copy of the image)")
    }

    private func damage(_ header: Qcow2Header, fileSize: UInt64) -> FormatError? {
        guard 1...Self.maximumTableEntryCount ~= tableEntryCount else {
            return .damaged(
                "\(title): bitmap_table_size", at: place + 8, found: tableEntryCount,
                allowed: "1 to \(Self.maximumTableEntryCount)")
        }
        let size = UInt64(tableEntryCount) * header.clusterSize
        guard size <= Self.maximumSize else {
            return .damaged(
                "\(title): bitmap_table_size", at: place + 8, found: "\(tableEntryCount), for \(size) bytes",
                allowed: "at most \(Self.maximumSize) bytes")
        }
        guard tableOffset > 0, tableOffset % header.clusterSize == 0,
            let table = ByteRange(offset: tableOffset, length: UInt64(tableEntryCount) * 8), table.fits(fileSize)
        else {
            return .damaged(
                "\(title): bitmap_table_offset", at: place, found: "\(tableEntryCount) entries at \(tableOffset)",
                allowed: "a table at the start of a cluster within the file's \(fileSize) bytes")
        }
        // At most 2^29 bytes, 2^32 bits, and 2^63 bytes of the disk.
        guard header.virtualSize <= size * 8 << UInt64(granularityBits) else {
            return .damaged(
                "\(title): bitmap_table_size", at: place + 8, found: tableEntryCount,
                allowed: "enough for a disk of \(header.virtualSize) bytes")
        }
        return nil
    }
}
