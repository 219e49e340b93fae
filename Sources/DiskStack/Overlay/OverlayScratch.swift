// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto

/// The encrypted space of an overlay, in a file that becomes longer with what is written: a byte of the disk is at its own
/// offset, so that what was never written is a hole.
///
/// The key is random and nobody else has it: when the program ends, whatever is left of the file is noise. What was never
/// written, or was given up, must not be read.
final class OverlayScratch: BlockDevice {
    /// Of the cipher, in bytes.
    static let sectorSize = 4096

    /// In whole sectors, in bytes; the file has what is written of it.
    let size: UInt64
    let alignment = sectorSize
    let isWritable = true
    var depth: Int { file.depth }
    private let file: any GrowableDevice
    private let cipher: any SectorCipher

    /// - Parameters:
    ///   - file: empty and writable.
    ///   - size: of the disk, in bytes.
    /// - Throws: ``FormatError`` when no library here has the cipher.
    init(_ file: any GrowableDevice, size: UInt64) throws(FormatError) {
        self.file = file
        self.size = size.roundedUp(to: UInt64(Self.sectorSize))
        cipher = try CipherSpec("aes-xts-plain64").makeCipher(key: .random(count: 64), sectorSize: Self.sectorSize)
    }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try file.read(into: &buffer, at: offset, mode)
        try cipher.decrypt(&buffer, firstSector: offset / 512)
    }

    /// All that may be read is data.
    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("overlay: there is no byte \(offset)") }
        return Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) { file.prefetch(range, budget) }

    /// Encrypted in place. Nothing is durable: the key is not.
    func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        try checkBounds(bytes.byteCount, at: offset, layer: "overlay")
        let end = offset + UInt64(bytes.byteCount)
        if end > file.size { try file.grow(to: end) }
        try cipher.encrypt(&bytes, firstSector: offset / 512)
        try file.write(&bytes, at: offset, [])
    }

    /// There is no fast way: a hole does not decrypt to zeros.
    func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) { throw .notSupported }

    /// Gives back the space of what the file has of a range, with that of a sector in which the disk ends.
    func discard(_ range: ByteRange) throws(BlockError) {
        let end = min(range.end.roundedUp(to: UInt64(Self.sectorSize)), file.size)
        guard range.offset < end, let part = ByteRange(offset: range.offset, length: end - range.offset) else { return }
        try file.discard(part)
    }

    /// Nothing outlives the program.
    func flush() {}
}
