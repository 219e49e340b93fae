// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The decrypted view of a device of encrypted sectors, as dm-crypt gives it.
///
/// Zeros are written as the ciphertext of zeros. Ranges are given up below only when that is allowed: it shows whoever sees
/// the device below which sectors are in use, and what was given up reads as whatever a hole decrypts to.
public final class CryptDevice: BlockDevice {
    /// The device below in whole sectors, in bytes.
    public let size: UInt64
    /// The cipher's sector.
    public var alignment: Int { cipher.sectorSize }
    /// Of the device below.
    public var depth: Int { below.depth }
    /// As the device below.
    public var isWritable: Bool { below.isWritable }
    private let allowsDiscards: Bool
    private let below: any BlockDevice
    private let cipher: any SectorCipher
    private let ivTweak: UInt64

    /// - Parameters:
    ///   - below: ciphertext from its first byte on.
    ///   - ivTweak: the number of the first sector, in units of 512 bytes.
    ///   - allowsDiscards: give up below what is given up here.
    /// - Returns: nil when the last sector's number does not fit 64 bits.
    public init?(_ below: any BlockDevice, cipher: any SectorCipher, ivTweak: UInt64, allowsDiscards: Bool = false) {
        let sectorSize = UInt64(cipher.sectorSize)
        let size = below.size / sectorSize * sectorSize
        guard !ivTweak.addingReportingOverflow(size / 512).overflow else { return nil }
        self.below = below.alignment > cipher.sectorSize ? AlignedDevice(below) : below
        self.cipher = cipher
        self.ivTweak = ivTweak
        self.allowsDiscards = allowsDiscards
        self.size = size
    }

    /// One read of the device below, decrypted in place.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "crypt")
        try below.read(into: &buffer, at: offset, mode)
        try cipher.decrypt(&buffer, firstSector: ivTweak + offset / 512)
    }

    /// Of the ciphertext.
    public func prefetch(_ range: ByteRange, _ budget: Budget) { below.prefetch(range, budget) }

    /// All of it is data: a hole in the ciphertext is not a hole in the disk.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("crypt: there is no byte \(offset)") }
        return Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }

    /// Encrypted in place, and one write of the device below.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(bytes.byteCount, at: offset, layer: "crypt")
        try cipher.encrypt(&bytes, firstSector: ivTweak + offset / 512)
        try below.write(&bytes, at: offset, options)
    }

    /// How many zeros are encrypted at once, in bytes: a multiple of each sector size.
    private static let zeroPiece = 256 << 10

    /// Writes encrypted zeros, which is no faster than to write anything else.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "crypt")
        guard !options.contains(.fastOnly) else { throw .notSupported }
        var memory = [UInt8](repeating: 0, count: Int(min(UInt64(Self.zeroPiece), range.length)))
        var done: UInt64 = 0
        while done < range.length {
            let count = Int(min(UInt64(Self.zeroPiece), range.length - done))
            try memory.withMutableBytes { (memory) throws(BlockError) in
                try memory.withSlice(0..<count) { (zeros) throws(BlockError) in
                    zeros.clear()
                    try write(&zeros, at: range.offset + done, [])
                }
            }
            done += UInt64(count)
        }
        if options.contains(.durable) { try below.flush() }
    }

    /// Passed down, or nothing.
    public func discard(_ range: ByteRange) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "crypt")
        if allowsDiscards { try below.discard(range) }
    }

    /// Of the device below.
    public func flush() throws(BlockError) { try below.flush() }
}
