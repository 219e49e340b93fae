// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// A value in the JSON of a LUKS2 header, with its path for messages.
///
/// Source: LUKS2 On-Disk Format Specification 1.1.1, section 3: which fields are JSON numbers and which are texts of
/// digits (those of 64 bits).
struct LUKS2Field {
    let value: JSONValue
    /// E.g. "keyslots.0.area.offset".
    let path: String
    /// Where the JSON area is, in bytes.
    let place: UInt64

    /// Something is wrong with this value; `found` defaults to the value.
    func fault(found: String? = nil, allowed: String, advice: Sentence? = nil) -> LUKSFault {
        LUKSFault(
            "LUKS2 metadata: \(path)", at: place, found: found ?? description, allowed: allowed, advice: advice)
    }

    /// The value for a message.
    private var description: String {
        switch value {
        case .object: "an object"
        case .array: "an array"
        case .string(let text): ShownText.quoted(text)
        case .number(let text): "the number \(text)"
        case .bool(let value): "\(value)"
        case .null: "null"
        }
    }

    private func field(_ name: String, _ value: JSONValue) -> LUKS2Field {
        LUKS2Field(value: value, path: path.isEmpty ? name : "\(path).\(name)", place: place)
    }

    private func object() throws(LUKSFault) -> [String: JSONValue] {
        guard case .object(let members) = value else { throw fault(allowed: "an object") }
        return members
    }

    /// A member that must be there.
    func member(_ name: String) throws(LUKSFault) -> LUKS2Field {
        guard let member = try optional(name) else {
            throw field(name, .null).fault(found: "nothing", allowed: "this field, which every header must have here")
        }
        return member
    }

    /// A member that need not be there.
    func optional(_ name: String) throws(LUKSFault) -> LUKS2Field? {
        try object()[name].map { field(name, $0) }
    }

    /// The members of a section whose keys are numbers less than `limit`, by rising number.
    func numbered(limit: Int) throws(LUKSFault) -> [(number: Int, field: LUKS2Field)] {
        var members: [(number: Int, field: LUKS2Field)] = []
        // Sorted, so that of several faults the same one is told each time.
        for (key, value) in try object().sorted(by: { $0.key < $1.key }) {
            // Int takes "+5" and "007" too.
            guard let number = Int(key), String(number) == key, (0..<limit).contains(number) else {
                throw fault(found: "the key \(ShownText.quoted(key))", allowed: "keys from \"0\" to \"\(limit - 1)\"")
            }
            members.append((number, field(key, value)))
        }
        return members.sorted { $0.number < $1.number }
    }

    /// A text.
    func text() throws(LUKSFault) -> String {
        guard case .string(let text) = value else { throw fault(allowed: "a text") }
        return text
    }

    /// The longest name, e.g. of a cipher, in bytes.
    private static let maximumNameLength = 128

    /// A name: ASCII without spaces.
    func name() throws(LUKSFault) -> String {
        let text = try text()
        guard LUKSText.isName(text), text.utf8.count <= Self.maximumNameLength else {
            throw fault(allowed: "a name of up to \(Self.maximumNameLength) ASCII characters without spaces")
        }
        return text
    }

    /// A number of 64 bits, which is written as a text.
    func decimal() throws(LUKSFault) -> UInt64 {
        guard case .string(let text) = value, !text.isEmpty,
            text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let number = UInt64(text)
        else { throw fault(allowed: "decimal digits in quotes, less than 2^64") }
        return number
    }

    /// A number of 32 bits, which is written as a number.
    func integer(_ range: ClosedRange<UInt32>) throws(LUKSFault) -> UInt32 {
        guard case .number(let text) = value, let number = UInt32(text), range.contains(number) else {
            let bound =
                range.upperBound == .max ? "at least \(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
            throw fault(allowed: "a whole number, not in quotes, \(bound)")
        }
        return number
    }

    /// An array of at most 32 texts.
    func texts() throws(LUKSFault) -> [String] {
        guard case .array(let elements) = value else { throw fault(allowed: "an array of texts") }
        guard elements.count <= 32 else {
            throw fault(found: "an array of \(elements.count) elements", allowed: "at most 32")
        }
        var texts: [String] = []
        for (index, element) in elements.enumerated() {
            texts.append(try field(String(index), element).text())
        }
        return texts
    }

    /// An array of numbers as texts, each that of a member of a section.
    func references(to members: Set<Int>, section: String) throws(LUKSFault) -> [Int] {
        var numbers: [Int] = []
        for text in try texts() {
            guard let number = Int(text), String(number) == text, members.contains(number) else {
                throw fault(found: ShownText.quoted(text), allowed: "numbers of \(section) that exist, in quotes")
            }
            guard !numbers.contains(number) else {
                throw fault(found: "\(ShownText.quoted(text)) twice", allowed: "each number once")
            }
            numbers.append(number)
        }
        return numbers.sorted()
    }

    /// Bytes in base64 with padding (RFC 4648, section 4); `allowed` is their number.
    func bytes(_ allowed: ClosedRange<Int>) throws(LUKSFault) -> [UInt8] {
        let text = try text()
        // Checked before it is decoded.
        guard text.utf8.count <= (allowed.upperBound + 2) / 3 * 4, let bytes = Base64.decode(text),
            allowed.contains(bytes.count)
        else { throw fault(allowed: "\(allowed.lowerBound) to \(allowed.upperBound) bytes in base64") }
        return bytes
    }
}

/// RFC 4648, section 4.
enum Base64 {
    /// Nil when the padding is missing, a character does not belong, or bits are set that are not used.
    static func decode(_ text: String) -> [UInt8]? {
        let characters = Array(text.utf8)
        let digits = characters.prefix { $0 != UInt8(ascii: "=") }
        let padding = characters.count - digits.count
        guard characters.count % 4 == 0, padding <= 2,
            characters[digits.count...].allSatisfy({ $0 == UInt8(ascii: "=") })
        else { return nil }
        var bytes: [UInt8] = []
        var bits: UInt32 = 0
        var bitCount = 0
        for digit in digits {
            guard let value = value(of: digit) else { return nil }
            bits = bits << 6 | UInt32(value)
            bitCount += 6
            guard bitCount >= 8 else { continue }
            bitCount -= 8
            bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(bitCount)))
            bits &= (1 << UInt32(bitCount)) - 1
        }
        return bits == 0 ? bytes : nil
    }

    private static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): digit - UInt8(ascii: "A")
        case UInt8(ascii: "a")...UInt8(ascii: "z"): digit - UInt8(ascii: "a") + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0") + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
