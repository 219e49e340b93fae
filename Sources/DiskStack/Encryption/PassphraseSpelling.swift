// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto

/// What becomes of the bytes at one place of a passphrase that is spelt in another way.
enum SpellingStep {
    /// So many bytes stay as they are.
    case keep(Int)
    /// Others stand for so many.
    case replace(Int, by: SpeltBytes)
    /// The passphrase cannot be spelt so.
    case giveUp
}

/// Up to three bytes of a secret, which do not get into memory of their own.
struct SpeltBytes {
    /// The first of them lowest.
    private let bytes: UInt32
    let count: Int

    init(_ byte: UInt8) { (bytes, count) = (UInt32(byte), 1) }

    init(_ first: UInt8, _ second: UInt8) { (bytes, count) = (UInt32(second) << 8 | UInt32(first), 2) }

    /// A character up to U+07FF in UTF-8, perhaps with a byte before.
    init(_ before: UInt8? = nil, scalar: UInt16) {
        guard scalar >= 0x80 else {
            (bytes, count) = (UInt32(scalar), 1)
            return
        }
        let pair = UInt32(0x80 | scalar & 0x3F) << 8 | UInt32(0xC0 | scalar >> 6)
        (bytes, count) = before.map { (pair << 8 | UInt32($0), 3) } ?? (pair, 2)
    }

    subscript(index: Int) -> UInt8 { UInt8(truncatingIfNeeded: bytes >> UInt32(8 * index)) }
}

/// Ways to spell the same characters. Each is asked for a place in the bytes, and how they go on there.
enum PassphraseSpelling {
    /// Latin-1 for UTF-8 of characters up to U+00FF.
    static func latin1(_ bytes: RawSpan, _ index: Int) -> SpellingStep {
        guard bytes.byte(at: index) >= 0x80 else { return .keep(1) }
        guard let scalar = pair(bytes, index), scalar < 0x100 else { return .giveUp }
        return .replace(2, by: SpeltBytes(UInt8(scalar)))
    }

    /// UTF-8 for Latin-1.
    static func utf8(_ bytes: RawSpan, _ index: Int) -> SpellingStep {
        let byte = bytes.byte(at: index)
        return byte < 0x80 ? .keep(1) : .replace(1, by: SpeltBytes(scalar: UInt16(byte)))
    }

    /// A letter and an accent behind it for the letter with its accent, of those that Latin-1 and Latin Extended-A have.
    static func decomposed(_ bytes: RawSpan, _ index: Int) -> SpellingStep {
        guard let scalar = pair(bytes, index) else { return .keep(1) }
        guard let letter = accented.first(where: { $0.whole == scalar }) else { return .keep(2) }
        return .replace(2, by: SpeltBytes(letter.base, scalar: letter.mark))
    }

    /// The other way around.
    static func composed(_ bytes: RawSpan, _ index: Int) -> SpellingStep {
        let byte = bytes.byte(at: index)
        guard let mark = pair(bytes, index + 1),
            let letter = accented.first(where: { $0.base == byte && $0.mark == mark })
        else { return .keep(1) }
        return .replace(3, by: SpeltBytes(scalar: letter.whole))
    }

    /// What is on the keys of the digits, on a keyboard of France or Belgium.
    static func frenchFromDigits(_ bytes: RawSpan, _ index: Int) -> SpellingStep {
        guard let key = french.first(where: { $0.digit == bytes.byte(at: index) }) else { return .keep(1) }
        return .replace(1, by: SpeltBytes(scalar: key.other))
    }

    /// The other way around.
    static func digitsFromFrench(_ bytes: RawSpan, _ index: Int) -> SpellingStep {
        let scalar = pair(bytes, index)
        guard let key = french.first(where: { $0.other == scalar ?? UInt16(bytes.byte(at: index)) }) else {
            return .keep(scalar == nil ? 1 : 2)
        }
        return .replace(scalar == nil ? 1 : 2, by: SpeltBytes(key.digit))
    }

    // MARK: UTF-8

    /// The character that two bytes stand for, if they do.
    private static func pair(_ bytes: RawSpan, _ index: Int) -> UInt16? {
        guard index + 1 < bytes.byteCount else { return nil }
        let (first, second) = (bytes.byte(at: index), bytes.byte(at: index + 1))
        guard (0xC2...0xDF).contains(first), second & 0xC0 == 0x80 else { return nil }
        return UInt16(first & 0x1F) << 6 | UInt16(second & 0x3F)
    }

    // MARK: Tables

    private static let french = zip("1234567890".unicodeScalars, "&é\"'(-è_çà".unicodeScalars).map { digit, other in
        (digit: UInt8(digit.value), other: UInt16(other.value))
    }

    private static let accented = accents.flatMap { mark, bases, wholes in
        zip(bases.unicodeScalars, wholes.unicodeScalars).map { base, whole in
            (base: UInt8(base.value), mark: mark, whole: UInt16(whole.value))
        }
    }

    /// Accents, and the letters that have one of their own with each: UnicodeData.txt, U+00C0 to U+017F.
    private static let accents: [(mark: UInt16, bases: String, wholes: String)] = [
        (0x0300, "AEIOUaeiou", "ÀÈÌÒÙàèìòù"),
        (0x0301, "AEIOUYaeiouyCcLlNnRrSsZz", "ÁÉÍÓÚÝáéíóúýĆćĹĺŃńŔŕŚśŹź"),
        (0x0302, "AEIOUaeiouCcGgHhJjSsWwYy", "ÂÊÎÔÛâêîôûĈĉĜĝĤĥĴĵŜŝŴŵŶŷ"),
        (0x0303, "ANOanoIiUu", "ÃÑÕãñõĨĩŨũ"),
        (0x0304, "AaEeIiOoUu", "ĀāĒēĪīŌōŪū"),
        (0x0306, "AaEeGgIiOoUu", "ĂăĔĕĞğĬĭŎŏŬŭ"),
        (0x0307, "CcEeGgIZz", "ĊċĖėĠġİŻż"),
        (0x0308, "AEIOUaeiouyY", "ÄËÏÖÜäëïöüÿŸ"),
        (0x030A, "AaUu", "ÅåŮů"),
        (0x030B, "OoUu", "ŐőŰű"),
        (0x030C, "CcDdEeLlNnRrSsTtZz", "ČčĎďĚěĽľŇňŘřŠšŤťŽž"),
        (0x0327, "CcGgKkLlNnRrSsTt", "ÇçĢģĶķĻļŅņŖŗŞşŢţ"),
        (0x0328, "AaEeIiUu", "ĄąĘęĮįŲų"),
    ]
}

extension Secret {
    /// The same characters in another spelling.
    ///
    /// - Parameter step: is called twice for each place, and is to answer alike.
    /// - Returns: nil when nothing changes, or it cannot be done.
    func rewriting(_ step: (RawSpan, Int) -> SpellingStep) -> Secret? {
        withBytes { bytes in
            var (index, size, isChanged) = (0, 0, false)
            while index < bytes.byteCount {
                switch step(bytes, index) {
                case .keep(let count): (index, size) = (index + count, size + count)
                case .replace(let count, let others):
                    (index, size, isChanged) = (index + count, size + others.count, true)
                case .giveUp: return nil
                }
            }
            guard isChanged else { return nil }
            return Secret(count: size) { target in
                var (index, position) = (0, 0)
                func put(_ byte: UInt8) {
                    target.storeBytes(of: byte, toByteOffset: position, as: UInt8.self)
                    position += 1
                }
                while index < bytes.byteCount {
                    switch step(bytes, index) {
                    case .keep(let count):
                        for place in index..<(index + count) { put(bytes.byte(at: place)) }
                        index += count
                    case .replace(let count, let others):
                        for place in 0..<others.count { put(others[place]) }
                        index += count
                    case .giveUp: return
                    }
                }
            }
        }
    }
}
