// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Secrets that are written as text: as hexadecimal digits or in base64 (RFC 4648). White space between characters is left
/// out, anything else that does not belong there is refused. Libraries that decode base64 would leave copies in memory that is
/// neither locked nor wiped.
extension Secret {
    /// Why text stands for no bytes. Tells where and how many, never what.
    public enum DecodingFault: Error, Equatable {
        /// The byte at this index, from 0 on, does not belong there.
        case character(at: Int)
        /// So many characters stand for no whole number of bytes.
        case count(Int)
        /// The last character of base64 has bits that belong to no byte, and are not zero.
        case bitsLeft
    }

    /// The bytes that hexadecimal digits of either case stand for.
    /// - Throws: ``DecodingFault``.
    public func decodingHexadecimal() throws(DecodingFault) -> Secret {
        try decoding(bitsPerCharacter: 4) { (text, index, _) throws(DecodingFault) in
            guard let value = text.hexadecimalValue else { throw .character(at: index) }
            return value
        }
    }

    /// The bytes that base64 stands for, with its padding.
    /// - Throws: ``DecodingFault``.
    public func decodingBase64() throws(DecodingFault) -> Secret {
        try decoding(bitsPerCharacter: 6) { (text, index, count) throws(DecodingFault) in
            switch text {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): return text - UInt8(ascii: "A")
            case UInt8(ascii: "a")...UInt8(ascii: "z"): return text - UInt8(ascii: "a") + 26
            case UInt8(ascii: "0")...UInt8(ascii: "9"): return text - UInt8(ascii: "0") + 52
            case UInt8(ascii: "+"): return 62
            case UInt8(ascii: "/"): return 63
            // It stands for the last two characters of four at most.
            case UInt8(ascii: "=") where count % 4 >= 2: return nil
            default: throw .character(at: index)
            }
        }
    }

    /// Puts together the bits of characters.
    ///
    /// - Parameter value: the bits of a character at an index, of which there have been `count` others; nil for padding.
    private func decoding(
        bitsPerCharacter: Int, _ value: (_ text: UInt8, _ index: Int, _ count: Int) throws(DecodingFault) -> UInt8?
    ) throws(DecodingFault) -> Secret {
        var size = 0
        let room = try withBytes { (text) throws(DecodingFault) in
            try Secret(count: text.byteCount * bitsPerCharacter / 8) { (target) throws(DecodingFault) in
                var (bits, bitCount, count, padding) = (0 as UInt32, 0, 0, 0)
                for index in 0..<text.byteCount {
                    let byte = text.byte(at: index)
                    if byte == 0x20 || (0x09...0x0D).contains(byte) { continue }
                    let value = try value(byte, index, count)
                    count += 1
                    guard let value else {
                        padding += 1
                        continue
                    }
                    guard padding == 0 else { throw .character(at: index) }
                    bits = bits << UInt32(bitsPerCharacter) | UInt32(value)
                    bitCount += bitsPerCharacter
                    guard bitCount >= 8 else { continue }
                    bitCount -= 8
                    target.storeBytes(
                        of: UInt8(truncatingIfNeeded: bits >> UInt32(bitCount)), toByteOffset: size, as: UInt8.self)
                    bits &= 1 << UInt32(bitCount) - 1
                    size += 1
                }
                guard count % (bitsPerCharacter == 4 ? 2 : 4) == 0 else { throw .count(count) }
                guard bits == 0 else { throw .bitsLeft }
            }
        }
        return room.count == size ? room : room.prefix(size)
    }
}
