// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The decrypted view of a device of encrypted sectors, as dm-crypt gives it.
public final class CryptDevice: BlockDevice {
    /// The device below in whole sectors, in bytes.
    public let size: UInt64
    /// The cipher's sector.
    public var alignment: Int { cipher.sectorSize }
    private let below: any BlockDevice
    private let cipher: any SectorCipher
    private let ivTweak: UInt64

    /// - Parameters:
    ///   - below: ciphertext from its first byte on.
    ///   - ivTweak: the number of the first sector, in units of 512 bytes.
    /// - Returns: nil when the last sector's number does not fit 64 bits.
    public init?(_ below: any BlockDevice, cipher: any SectorCipher, ivTweak: UInt64) {
        let sectorSize = UInt64(cipher.sectorSize)
        let size = below.size / sectorSize * sectorSize
        guard !ivTweak.addingReportingOverflow(size / 512).overflow else { return nil }
        self.below = below.alignment > cipher.sectorSize ? AlignedDevice(below) : below
        self.cipher = cipher
        self.ivTweak = ivTweak
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
}
