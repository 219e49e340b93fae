// SPDX-License-Identifier: Apache-2.0

/// A JSON value; a number is kept as its text, because what it may be depends on the field.
public enum JSONValue: Equatable, Sendable {
    case object([String: JSONValue])
    case array([JSONValue])
    case string(String)
    case number(String)
    case bool(Bool)
    case null
}

/// Why bytes are not JSON that is taken.
public struct JSONFault: Error, Equatable {
    /// The byte, from the start.
    public let position: Int
    /// What is there.
    public let found: String
    /// What could be.
    public let allowed: String
}

/// Reads a JSON object of an image: the area in a LUKS2 header, a name of a file.
///
/// It takes what RFC 8259 allows and nothing else: UTF-8 that is valid, no key twice in an object, no number with
/// leading zeros; and it has limits, so that the cost is bounded by the size of the area, which is at most 4 MiB.
public struct StrictJSON {
    /// Objects and arrays in each other; json-c, which cryptsetup uses, has the same limit. cryptsetup writes 5.
    public static let maximumDepth = 32
    /// All values together; cryptsetup writes some 500 at most.
    static let maximumValues = 16384
    /// A key or text, in bytes of UTF-8; the longest known, in tokens, have a few KiB.
    static let maximumTextLength = 256 << 10
    /// The digits of a number.
    static let maximumNumberLength = 64

    private let bytes: [UInt8]
    private var position = 0
    private var valueCount = 0

    /// Reads the JSON area of a LUKS2 header: an object, then NUL bytes to the end, at least one.
    public static func read(area: [UInt8]) throws(JSONFault) -> [String: JSONValue] {
        var reader = StrictJSON(bytes: area)
        let object = try reader.topObject()
        guard reader.position < area.count else { throw reader.fault("a NUL byte behind the object") }
        if let stray = area[reader.position...].firstIndex(where: { $0 != 0 }) {
            reader.position = stray
            throw reader.fault("nothing but NUL bytes behind the object")
        }
        return object
    }

    /// Reads a text that is one object, with space around it perhaps.
    public static func read(text: [UInt8]) throws(JSONFault) -> [String: JSONValue] {
        var reader = StrictJSON(bytes: text)
        reader.skipSpace()
        let object = try reader.topObject()
        reader.skipSpace()
        guard reader.position == text.count else { throw reader.fault("nothing behind the object") }
        return object
    }

    private mutating func topObject() throws(JSONFault) -> [String: JSONValue] {
        guard peek() == UInt8(ascii: "{") else { throw fault("{ as the first byte") }
        return try object(depth: 1)
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private func peek() -> UInt8? { position < bytes.count ? bytes[position] : nil }

    private func fault(_ allowed: String) -> JSONFault {
        let found =
            switch peek() {
            case nil: "the end of the area"
            case .some(let byte) where (0x21...0x7E).contains(byte): "\"\(Character(UnicodeScalar(byte)))\""
            case .some(let byte): "byte \(byte)"
            }
        return JSONFault(position: position, found: found, allowed: allowed)
    }

    private mutating func skipSpace() {
        while let byte = peek(), byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    private mutating func take(_ byte: UInt8, or allowed: String) throws(JSONFault) {
        guard peek() == byte else { throw fault(allowed) }
        position += 1
    }

    private mutating func value(depth: Int) throws(JSONFault) -> JSONValue {
        valueCount += 1
        guard valueCount <= Self.maximumValues else {
            throw JSONFault(
                position: position, found: "more than \(Self.maximumValues) values",
                allowed: "at most \(Self.maximumValues)")
        }
        guard let first = peek() else { throw fault("a value") }
        switch first {
        case UInt8(ascii: "{"): return .object(try object(depth: depth))
        case UInt8(ascii: "["): return .array(try array(depth: depth))
        case UInt8(ascii: "\""): return .string(try text())
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try number())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: throw fault("a value")
        }
    }

    private func checkDepth(_ depth: Int) throws(JSONFault) {
        guard depth <= Self.maximumDepth else {
            throw JSONFault(
                position: position, found: "objects and arrays more than \(Self.maximumDepth) deep",
                allowed: "at most \(Self.maximumDepth)")
        }
    }

    private mutating func object(depth: Int) throws(JSONFault) -> [String: JSONValue] {
        try checkDepth(depth)
        position += 1
        var members: [String: JSONValue] = [:]
        skipSpace()
        if peek() == UInt8(ascii: "}") {
            position += 1
            return members
        }
        while true {
            skipSpace()
            let start = position
            guard peek() == UInt8(ascii: "\"") else { throw fault("a key in quotes") }
            let key = try text()
            skipSpace()
            try take(UInt8(ascii: ":"), or: "a colon")
            skipSpace()
            guard members.updateValue(try value(depth: depth + 1), forKey: key) == nil else {
                throw JSONFault(
                    position: start, found: "the key \(ShownText.quoted(key)) a second time",
                    allowed: "each key once in an object")
            }
            skipSpace()
            if peek() == UInt8(ascii: "}") { break }
            try take(UInt8(ascii: ","), or: "a comma or }")
        }
        position += 1
        return members
    }

    private mutating func array(depth: Int) throws(JSONFault) -> [JSONValue] {
        try checkDepth(depth)
        position += 1
        var elements: [JSONValue] = []
        skipSpace()
        if peek() == UInt8(ascii: "]") {
            position += 1
            return elements
        }
        while true {
            skipSpace()
            elements.append(try value(depth: depth + 1))
            skipSpace()
            if peek() == UInt8(ascii: "]") { break }
            try take(UInt8(ascii: ","), or: "a comma or ]")
        }
        position += 1
        return elements
    }

    private mutating func word(_ word: String, _ value: JSONValue) throws(JSONFault) -> JSONValue {
        guard bytes[position...].starts(with: word.utf8) else { throw fault("a value") }
        position += word.utf8.count
        return value
    }

    /// RFC 8259, section 6.
    private mutating func number() throws(JSONFault) -> String {
        let start = position
        if peek() == UInt8(ascii: "-") { position += 1 }
        if peek() == UInt8(ascii: "0") { position += 1 } else { try digits() }
        if peek() == UInt8(ascii: ".") {
            position += 1
            try digits()
        }
        if peek() == UInt8(ascii: "e") || peek() == UInt8(ascii: "E") {
            position += 1
            if peek() == UInt8(ascii: "+") || peek() == UInt8(ascii: "-") { position += 1 }
            try digits()
        }
        if let byte = peek(), (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
            throw fault("a number without leading zeros")
        }
        guard position - start <= Self.maximumNumberLength else {
            throw JSONFault(
                position: start, found: "a number of \(position - start) characters",
                allowed: "at most \(Self.maximumNumberLength)")
        }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    private mutating func digits() throws(JSONFault) {
        let isDigit = { (byte: UInt8) in (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
        guard let first = peek(), isDigit(first) else { throw fault("a digit") }
        while let byte = peek(), isDigit(byte) { position += 1 }
    }

    /// RFC 8259, section 7; the opening quote is next.
    private mutating func text() throws(JSONFault) -> String {
        let start = position
        position += 1
        var content: [UInt8] = []
        while true {
            guard let byte = peek() else { throw fault("the end of a text that starts at its byte \(start)") }
            switch byte {
            case UInt8(ascii: "\""):
                position += 1
                guard let text = String(validating: content, as: UTF8.self) else {
                    throw JSONFault(position: start, found: "a text that is not UTF-8", allowed: "valid UTF-8")
                }
                return text
            case UInt8(ascii: "\\"):
                content += try escape()
            case ..<0x20:
                throw fault("text without control characters")
            default:
                content.append(byte)
                position += 1
            }
            guard content.count <= Self.maximumTextLength else {
                throw JSONFault(
                    position: start, found: "a text of more than \(Self.maximumTextLength) bytes",
                    allowed: "at most \(Self.maximumTextLength)")
            }
        }
    }

    /// A backslash and what follows it.
    private mutating func escape() throws(JSONFault) -> [UInt8] {
        position += 1
        guard let byte = peek() else { throw fault("the rest of an escape") }
        let simple: UInt8
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): simple = byte
        case UInt8(ascii: "b"): simple = 0x08
        case UInt8(ascii: "f"): simple = 0x0C
        case UInt8(ascii: "n"): simple = 0x0A
        case UInt8(ascii: "r"): simple = 0x0D
        case UInt8(ascii: "t"): simple = 0x09
        case UInt8(ascii: "u"): return try unicodeEscape()
        default: throw fault("an escape that JSON has")
        }
        position += 1
        return [simple]
    }

    /// The u of \uXXXX is next; a surrogate must be one of a pair.
    private mutating func unicodeEscape() throws(JSONFault) -> [UInt8] {
        let start = position
        let wrong = JSONFault(
            position: start, found: "an escape that is no character", allowed: "one character, and not NUL")
        var code = try codeUnit()
        if (0xD800..<0xDC00).contains(code) {
            guard bytes[position...].starts(with: "\\u".utf8) else { throw wrong }
            position += 1
            let low = try codeUnit()
            guard (0xDC00..<0xE000).contains(low) else { throw wrong }
            code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
        }
        guard code != 0, let scalar = UnicodeScalar(code) else { throw wrong }
        return Array(String(scalar).utf8)
    }

    /// u and four digits.
    private mutating func codeUnit() throws(JSONFault) -> UInt32 {
        position += 1
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek(), let digit = byte.hexadecimalValue else {
                throw fault("four hexadecimal digits")
            }
            code = code << 4 | UInt32(digit)
            position += 1
        }
        return code
    }
}
