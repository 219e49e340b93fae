// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The binary part of one copy of a LUKS2 header, checked, and the JSON area behind it, whose checksum is right.
///
/// Source: LUKS2 On-Disk Format Specification 1.1.1, section 2.1. Integers are big-endian.
struct LUKS2BinaryHeader {
    /// One copy, binary part and JSON area, in bytes.
    let size: UInt64
    let sequenceID: UInt64
    let label: String
    let uuid: String
    let subsystem: String
    /// As it is on disk.
    let json: [UInt8]

    /// The sizes that one copy may have, which are also the places where the second one may be.
    static let sizes: [UInt64] = (4...12).map { 1024 << $0 }
    /// The length of the binary part.
    static let length = 4096
    /// Fields end here; zeros follow.
    private static let fieldsEnd = 512
    private static let checksum = 448..<512

    /// Reads a copy.
    ///
    /// - Parameter offset: 0 for the primary copy, the size of that for the secondary.
    init(_ device: any BlockDevice, at offset: UInt64) throws(LUKSFault) {
        let name = Self.name(at: offset)
        guard let fixed = ByteRange(offset: offset, length: UInt64(Self.length)), fixed.fits(device.size) else {
            throw LUKSFault(
                name, at: offset, found: "the end of the file at \(device.size)", allowed: "4096 bytes",
                advice: LUKS1Header.headerCutAdvice)
        }
        var binary = try readLUKS(device, at: offset, count: Self.length, name)
        var reader = ByteReader(Array(binary[..<Self.fieldsEnd]))
        let magic = Array(reader.take(6) ?? [])
        let expected = offset == 0 ? LUKSMagic.primary : LUKSMagic.secondary
        guard magic == expected else {
            throw LUKSFault(
                "\(name): magic", at: offset, found: magic.hexadecimal(), allowed: expected.hexadecimal())
        }
        let version = reader.integer(UInt16.self) ?? 0
        guard version == 2 else {
            throw LUKSFault(
                "\(name): version", at: offset + 6, found: version, allowed: offset == 0 ? "1 or 2" : "2")
        }
        size = reader.integer() ?? 0
        sequenceID = reader.integer() ?? 0
        label = ShownText.printable(field: reader.take(48) ?? [])
        let algorithm = ShownText.printable(field: reader.take(32) ?? [])
        _ = reader.take(64)  // A salt that makes the two copies differ.
        uuid = ShownText.printable(field: reader.take(40) ?? [])
        subsystem = ShownText.printable(field: reader.take(48) ?? [])
        let ownOffset: UInt64 = reader.integer() ?? 0

        guard Self.sizes.contains(size), offset == 0 || size == offset else {
            throw LUKSFault(
                "\(name): hdr_size", at: offset + 8, found: size,
                allowed: offset == 0 ? "a power of two from 16384 to 4194304" : "\(offset), its own place")
        }
        guard ownOffset == offset else {
            throw LUKSFault(
                "\(name): hdr_offset", at: offset + 256, found: ownOffset, allowed: "\(offset), its own place")
        }
        guard ByteRange(offset: offset, length: size)?.fits(device.size) == true else {
            throw LUKSFault(
                "\(name): hdr_size", at: offset + 8, found: size,
                allowed: "a header within the file's \(device.size) bytes",
                advice: device.size < 2 * Self.sizes[0] ? LUKS1Header.headerCutAdvice : nil)
        }
        json = try readLUKS(
            device, at: offset + UInt64(Self.length), count: Int(size) - Self.length, "\(name): JSON area")
        let stored = Array(binary[Self.checksum])
        binary.replaceSubrange(Self.checksum, with: [UInt8](repeating: 0, count: Self.checksum.count))
        guard let computed = Self.checksum(algorithm, of: binary + json) else {
            throw LUKSFault(
                "\(name): csum_alg", at: offset + 72, found: ShownText.quoted(algorithm),
                allowed: "a hash that nbdecrypt knows (cryptsetup writes \"sha256\")")
        }
        guard stored.starts(with: computed) else {
            throw LUKSFault(
                "\(name): csum", at: offset + UInt64(Self.checksum.lowerBound),
                found: "\(stored.prefix(4).hexadecimal())… (\(algorithm))",
                allowed: "\(computed.prefix(4).hexadecimal())…, the checksum of what is there")
        }
    }

    /// The hash of a copy whose checksum field is zero; nil when there is no such hash.
    static func checksum(_ algorithm: String, of copy: [UInt8]) -> [UInt8]? {
        guard let hash = try? HashAlgorithm(algorithm), hash.digestSize <= checksum.count else { return nil }
        var digest = [UInt8](repeating: 0, count: hash.digestSize)
        digest.withMutableBytes { digest in copy.withBytes { hash.hash($0, into: &digest) } }
        return digest
    }

    /// What a copy is called in messages.
    static func name(at offset: UInt64) -> String {
        offset == 0 ? "LUKS2 header (primary copy)" : "LUKS2 header (secondary copy)"
    }

    /// Whether there is at least the beginning of a secondary copy at `offset`, however damaged the rest.
    static func hasSecondary(_ device: any BlockDevice, at offset: UInt64) -> Bool {
        guard ByteRange(offset: offset, length: UInt64(fieldsEnd))?.fits(device.size) == true,
            let bytes = try? device.read(count: fieldsEnd, at: offset)
        else { return false }
        return bytes.starts(with: LUKSMagic.secondary)
            && bytes.withBytes({ $0.bigEndianWord(at: 256) }) == offset
    }
}
