// SPDX-License-Identifier: Apache-2.0

/// Parses the text in which LVM describes a volume group.
///
/// A name, then `=` and a value or a list in brackets, or a section in braces; `#` begins a comment. A string is in double
/// quotes, with a backslash before a quote or a backslash in it. Stricter than LVM: a name has one meaning in its section.
struct LVMTextParser {
    /// Why a text is none.
    struct Fault: Error, Equatable {
        /// Counted from 1.
        let line: Int
        /// "found …, allowed …" without the place; holds nothing of the text.
        let reason: String
    }

    /// Sections within each other: the group, its list of volumes, a volume, a segment, and as much again.
    static let maximumDepth = 8
    /// Names, and values in lists. A volume has about 15, so these are some ten thousand volumes.
    static let maximumCount = 1 << 19
    /// Of a name or a string, in bytes.
    static let maximumLength = 64 << 10

    private let bytes: [UInt8]
    private var position = 0
    private var count = 0

    /// The text as a section that holds its outermost names.
    static func parse(_ bytes: [UInt8]) throws(Fault) -> LVMSection {
        var parser = LVMTextParser(bytes)
        return try parser.section(depth: 0)
    }

    /// A text ends with a NUL; what is behind it must be more of them.
    private init(_ bytes: [UInt8]) {
        let end = bytes.lastIndex { $0 != 0 }.map { $0 + 1 } ?? 0
        self.bytes = Array(bytes[..<end])
    }

    private func fault(_ reason: String) -> Fault {
        Fault(line: 1 + bytes[..<min(position, bytes.count)].count { $0 == UInt8(ascii: "\n") }, reason: reason)
    }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = next {
            if byte == UInt8(ascii: "#") {
                position = bytes[position...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
            } else if byte == UInt8(ascii: " ") || (9...13).contains(byte) {
                position += 1
            } else {
                return
            }
        }
    }

    /// Takes a character when it is the next one.
    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard next == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func countOne() throws(Fault) {
        count += 1
        guard count <= Self.maximumCount else { throw fault("more than \(Self.maximumCount) names and values") }
    }

    /// Up to the brace that ends it, or the end of the text.
    private mutating func section(depth: Int) throws(Fault) -> LVMSection {
        var section = LVMSection()
        while true {
            skipSpace()
            guard next != nil else {
                guard depth == 0 else { throw fault("the text ends within a section") }
                return section
            }
            if depth > 0, take("}") { return section }
            try countOne()
            let name = try word()
            let value: LVMSection.Value
            if take("{") {
                guard depth < Self.maximumDepth else {
                    throw fault("sections within each other, more than \(Self.maximumDepth)")
                }
                value = .section(try self.section(depth: depth + 1))
            } else if take("=") {
                value = take("[") ? .list(try list()) : .scalar(try scalar())
            } else {
                throw fault("a name without \"=\" or \"{\" behind it")
            }
            guard section.append(name, value) else { throw fault("a name for the second time") }
        }
    }

    /// Up to the bracket that ends it; a comma behind the last value is allowed, as in LVM.
    private mutating func list() throws(Fault) -> [LVMSection.Scalar] {
        var values: [LVMSection.Scalar] = []
        while !take("]") {
            try countOne()
            values.append(try scalar())
            if take("]") { break }
            guard take(",") else { throw fault("a list without a comma between its values") }
        }
        return values
    }

    private mutating func scalar() throws(Fault) -> LVMSection.Scalar {
        skipSpace()
        if next == UInt8(ascii: "\"") { return .string(try string()) }
        let word = try word()
        guard word.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return .other }
        // LVM would take a number that begins with 0 for an octal one; it never writes any.
        guard let value = UInt64(word), word == "0" || !word.hasPrefix("0") else { return .other }
        return .integer(value)
    }

    /// A name, or a value that is not in quotes.
    private mutating func word() throws(Fault) -> String {
        if next == UInt8(ascii: "\"") { return try string() }
        let start = position
        while let byte = next, Self.isWordByte(byte) { position += 1 }
        guard position > start else { throw fault("a character that begins neither a name nor a value") }
        guard position - start <= Self.maximumLength else { throw fault("a name that is too long") }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    private static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "_"), UInt8(ascii: "+"), UInt8(ascii: "-"),
            UInt8(ascii: "."), UInt8(ascii: "@"), UInt8(ascii: "/"), UInt8(ascii: ":"):
            true
        default: false
        }
    }

    private mutating func string() throws(Fault) -> String {
        position += 1
        let start = position
        var text: [UInt8] = []
        while let byte = next, byte != UInt8(ascii: "\"") {
            guard position - start < Self.maximumLength else { throw fault("a string that is too long") }
            position += 1
            guard byte == UInt8(ascii: "\\"), let escaped = next,
                escaped == UInt8(ascii: "\"") || escaped == UInt8(ascii: "\\")
            else {
                text.append(byte)
                continue
            }
            text.append(escaped)
            position += 1
        }
        guard next != nil else { throw fault("a string without an end") }
        position += 1
        return String(decoding: text, as: UTF8.self)
    }
}
