// SPDX-License-Identifier: Apache-2.0

import BlockIO

extension DistinguishedName {
    /// Reads the string form of RFC 4514 §3; blanks around separators are allowed, the form `#hex` of a value is not.
    struct Parser {
        private let text: String
        private let bytes: [UInt8]
        private var place = 0

        init(text: String) {
            self.text = text
            self.bytes = Array(text.utf8)
        }

        /// - Throws: ``TLSError`` with the place of what is wrong.
        mutating func parse() throws(TLSError) -> [[Attribute]] {
            var components: [[Attribute]] = []
            repeat {
                var component = [try attribute()]
                while skip("+") { component.append(try attribute()) }
                components.append(component)
            } while skip(",")
            return components
        }

        private mutating func skip(_ separator: Unicode.Scalar) -> Bool {
            guard place < bytes.count, bytes[place] == UInt8(ascii: separator) else { return false }
            place += 1
            return true
        }

        private mutating func attribute() throws(TLSError) -> Attribute {
            let type = try type()
            return Attribute(type: type, value: try value())
        }

        private mutating func type() throws(TLSError) -> String {
            skipBlanks()
            let start = place
            while place < bytes.count, Self.isInType(bytes[place]) { place += 1 }
            let keyword = String(decoding: bytes[start..<place], as: UTF8.self)
            skipBlanks()
            guard !keyword.isEmpty, skip("=") else { throw fault("an attribute such as CN= must begin", at: start) }
            if keyword.first?.isNumber == true { return keyword }
            guard let type = keywords.first(where: { $0.keyword.lowercased() == keyword.lowercased() })?.type else {
                throw fault("the attribute \(keyword) is not known, write its number (OID) instead", at: start)
            }
            return type
        }

        private mutating func value() throws(TLSError) -> String {
            skipBlanks()
            let start = place
            if place < bytes.count, bytes[place] == UInt8(ascii: "#") {
                throw fault(##"a value must be text; write \# when it begins with #"##, at: place)
            }
            var value: [UInt8] = []
            // Blanks at the end count only when they are escaped.
            var kept = 0
            while place < bytes.count {
                let byte = bytes[place]
                if byte == UInt8(ascii: ",") || byte == UInt8(ascii: "+") { break }
                if byte == UInt8(ascii: "\\") {
                    value.append(try escaped())
                    kept = value.count
                } else {
                    guard ![UInt8(ascii: "\""), UInt8(ascii: ";"), UInt8(ascii: "<"), UInt8(ascii: ">")].contains(byte)
                    else { throw fault(#"\ must stand before this character"#, at: place) }
                    value.append(byte)
                    place += 1
                    if byte != 0x20 { kept = value.count }
                }
            }
            guard let string = String(validating: value.prefix(kept), as: UTF8.self) else {
                throw fault("the value is not UTF-8", at: start)
            }
            return string
        }

        /// What follows a backslash: two hexadecimal digits, or a character that stands for itself.
        private mutating func escaped() throws(TLSError) -> UInt8 {
            let start = place
            place += 1
            guard place < bytes.count else { throw fault(#"nothing follows \"#, at: start) }
            if place + 1 < bytes.count,
                let byte = UInt8(String(decoding: bytes[place...place + 1], as: UTF8.self), radix: 16),
                bytes[place].hexadecimalValue != nil
            {
                place += 2
                return byte
            }
            let byte = bytes[place]
            guard ##" "#+,;<=>\"##.utf8.contains(byte) else {
                throw fault(#"what follows \ is neither special nor two hexadecimal digits"#, at: start)
            }
            place += 1
            return byte
        }

        private mutating func skipBlanks() {
            while place < bytes.count, bytes[place] == 0x20 { place += 1 }
        }

        private static func isInType(_ byte: UInt8) -> Bool {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "-"), UInt8(ascii: "."):
                true
            default: false
            }
        }

        private func fault(_ what: String, at place: Int) -> TLSError {
            TLSError(
                "\(remedy: .allowName(nil)) \(text): at character \(place + 1), \(what); "
                    + "write it like CN=laptop.example.com,O=Example Home, the most specific first")
        }
    }
}
