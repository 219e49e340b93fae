// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A metadata area of a physical volume: a header of 512 bytes, and a ring of texts behind it, of which one counts.
///
/// Little-endian. A text that does not fit behind the others goes on behind the header.
struct LVMMetadataArea {
    /// What the area holds.
    enum Contents: Sendable {
        /// Nobody has written a text: the physical volume is in no volume group, as far as this area knows.
        case empty
        /// The texts are elsewhere, and what was written here once is out of date.
        case ignored
        /// The text that counts, and where it begins on the device; its checksum is right.
        case text([UInt8], at: UInt64)
    }

    /// In bytes. Volume groups of ten thousand volumes have texts of some MiB.
    static let maximumTextSize: UInt64 = 16 << 20

    private static let headerSize: UInt64 = 512
    private static let isIgnored: UInt32 = 1

    let contents: Contents

    /// - Parameters:
    ///   - place: of the area, as the label says.
    ///   - device: the physical volume; it takes any offset.
    ///   - texts: bound how much is read.
    /// - Throws: ``FormatError``: `damaged`, `unsupported` for a later version, `unreadable`.
    init(_ place: ByteRange, on device: any BlockDevice, _ texts: inout LVMTexts) throws(FormatError) {
        guard place.offset < device.size, device.size - place.offset >= Self.headerSize else {
            throw .damaged(
                "LVM metadata area", at: place.offset, found: "an area of \(place.length) bytes there",
                allowed: "a place on the device of \(device.size) bytes")
        }
        let header = SuperblockBytes(try Self.read(device, place.offset, Self.headerSize))
        let size = try Self.check(header, at: place.offset, deviceSize: device.size)
        let offset = header.little(40, UInt64.self)
        let length = header.little(48, UInt64.self)
        if header.little(60, UInt32.self) & Self.isIgnored != 0 {
            contents = .ignored
            return
        }
        guard offset != 0 else {
            contents = .empty
            return
        }
        guard (Self.headerSize..<size).contains(offset), length > 0, length <= size - Self.headerSize,
            length <= Self.maximumTextSize
        else {
            throw .damaged(
                "LVM metadata area: place of its text", at: place.offset + 40,
                found: "\(length) bytes from \(offset)",
                allowed: "at most \(Self.maximumTextSize) bytes within the \(size) bytes of the area")
        }
        try texts.countRead(length)
        let beforeEnd = min(length, size - offset)
        let text =
            try Self.read(device, place.offset + offset, beforeEnd)
            + Self.read(device, place.offset + Self.headerSize, length - beforeEnd)
        let checksum = LVMChecksum.of(text)
        guard checksum == header.little(56, UInt32.self) else {
            throw .damaged(
                "LVM metadata area: checksum of its text", at: place.offset + 56,
                found: header.little(56, UInt32.self), allowed: "\(checksum)")
        }
        contents = .text(text, at: place.offset + offset)
    }

    /// Checksum, signature, version and place of a header.
    /// - Returns: the size of the area, in bytes.
    private static func check(
        _ header: SuperblockBytes, at place: UInt64, deviceSize: UInt64
    ) throws(FormatError) -> UInt64 {
        let name = "LVM metadata area"
        guard header.has(" LVM2 x[5A%r0N*>", at: 4) else {
            throw .damaged("\(name): signature", at: place + 4, found: "another", allowed: "that of LVM2")
        }
        let checksum = LVMChecksum.of(header.field(4, Int(headerSize) - 4))
        guard header.little(0, UInt32.self) == checksum else {
            throw .damaged(
                "\(name): checksum of its header", at: place, found: header.little(0, UInt32.self),
                allowed: "\(checksum)")
        }
        let version = header.little(20, UInt32.self)
        guard version == 1 else {
            throw .unsupported("\(name) at byte \(place) has version \(version); nbdecrypt reads version 1")
        }
        let start = header.little(24, UInt64.self)
        guard start == place else {
            throw .damaged("\(name): its place", at: place + 24, found: start, allowed: "\(place)")
        }
        let size = header.little(32, UInt64.self)
        guard size > headerSize, size <= deviceSize - place else {
            throw .damaged(
                "\(name): its size", at: place + 32, found: size,
                allowed: "\(headerSize + 1) to \(deviceSize - place), which is left of the device")
        }
        return size
    }

    private static func read(_ device: any BlockDevice, _ offset: UInt64, _ count: UInt64) throws(FormatError)
        -> [UInt8]
    {
        do { return try device.read(count: Int(count), at: offset) } catch {
            throw .unreadable("LVM metadata area: \(error)")
        }
    }
}
