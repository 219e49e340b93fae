// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// What is changed in the header, and in the directory of bitmaps.
enum Qcow2HeaderChange {
    private static let incompatibleOffset: UInt64 = 72
    private static let autoclearOffset: UInt64 = 88
    private static let refcountTableOffset: UInt64 = 48
    /// Of the autoclear features, what is kept true: bitmaps, and that the data file is a raw image.
    private static let bitmapsBit: UInt64 = 1
    private static let knownAutoclearBits: UInt64 = 3
    /// Of an entry of the bitmap directory.
    private static let flagsOffset: UInt64 = 12

    /// Has the image say, before its disk is changed for the first time, what will not be true any more: features that this
    /// program does not know, and bitmaps that should go on with every write. It is on disk when this returns.
    static func prepare(_ file: any BlockDevice, _ header: Qcow2Header) throws(BlockError) {
        var autoclear = header.features.autoclear & knownAutoclearBits
        var flags: [(place: UInt64, value: UInt32)] = []
        if header.extensions.hasBitmaps, Qcow2Bitmap.isUpToDate(header) {
            do throws(FormatError) {
                flags = try bitmapsToMark(file, header)
            } catch {
                guard error.code != .unreadable else { throw .inputOutput("qcow2 bitmaps: \(error)") }
                // Nobody can use them; nobody must believe them, either.
                autoclear &= ~bitmapsBit
            }
        }
        let hasChanged = autoclear != header.features.autoclear
        for flag in flags { try write(flag.value, at: flag.place, file) }
        if hasChanged { try write(autoclear, at: autoclearOffset, file) }
        if hasChanged || !flags.isEmpty { try file.flush() }
    }

    /// Has the image say that features that this program does not know are out of date. It is on disk when this returns.
    static func clearUnknownAutoclearBits(_ file: any BlockDevice, _ header: Qcow2Header) throws(BlockError) {
        let autoclear = header.features.autoclear & knownAutoclearBits
        guard autoclear != header.features.autoclear else { return }
        try write(autoclear, at: autoclearOffset, file)
        try file.flush()
    }

    /// Has the image say that its reference counts are right. It is on disk when this returns.
    static func clearDirtyBit(_ file: any BlockDevice, _ header: Qcow2Header) throws(BlockError) {
        let bit: UInt64 = 1 << Qcow2Features.Incompatible.dirty.rawValue
        try write(header.features.incompatible & ~bit, at: incompatibleOffset, file)
        try file.flush()
    }

    /// Bitmaps that should go on with every write, which this program does not do, and have to be marked as not saved: where
    /// the flags of each are, and what they are to be.
    private static func bitmapsToMark(
        _ file: any BlockDevice, _ header: Qcow2Header
    ) throws(FormatError) -> [(place: UInt64, value: UInt32)] {
        guard let bitmaps = header.extensions.bitmaps else { return [] }
        let directory = try Qcow2Bitmap.directory(bitmaps, header, fileSize: file.size)
        var place = directory.range.offset
        var flags: [(place: UInt64, value: UInt32)] = []
        for index in 0..<directory.count {
            let entry = try Qcow2BitmapEntry(file, index, at: place, end: directory.range.end)
            if entry.isAutomatic, !entry.isInUse { flags.append((place + flagsOffset, entry.flagsInUse)) }
            place += entry.length
        }
        return flags
    }

    /// Has the header refer to another refcount table; nothing is flushed.
    static func setRefcountTable(
        at offset: UInt64, clusterCount: UInt32, in file: any BlockDevice
    ) throws(BlockError) {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: offset)
        bytes.append(bigEndian: clusterCount)
        try write(bytes, at: refcountTableOffset, file)
    }

    private static func write<Value: FixedWidthInteger & UnsignedInteger>(
        _ value: Value, at offset: UInt64, _ file: any BlockDevice
    ) throws(BlockError) {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: value)
        try write(bytes, at: offset, file)
    }

    private static func write(_ bytes: [UInt8], at offset: UInt64, _ file: any BlockDevice) throws(BlockError) {
        var bytes = bytes
        try bytes.withMutableBytes { (bytes) throws(BlockError) in try file.write(&bytes, at: offset, []) }
    }
}
