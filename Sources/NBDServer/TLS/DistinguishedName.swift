// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Who a certificate is for (RFC 4514): attributes with their values, most specific first, as in
/// `CN=laptop.example.com,O=Example Home`.
///
/// Two names are equal when they have the same attributes with the same bytes in the same order; within a component
/// of several attributes (`CN=a+UID=b`) the order does not count.
struct DistinguishedName: Equatable, CustomStringConvertible {
    /// An attribute type, as the number of its object identifier, and its value.
    struct Attribute: Equatable {
        let type: String
        let value: String

        static func == (a: Attribute, b: Attribute) -> Bool {
            // Strings compare by what they look like; names have to be the same bytes.
            a.type == b.type && a.value.utf8.elementsEqual(b.value.utf8)
        }
    }

    /// The components, most specific first, their attributes in the order of ``Attribute`` types and values.
    let components: [[Attribute]]

    init(components: [[Attribute]]) {
        self.components = components.map { component in
            component.sorted { a, b in
                a.type == b.type ? a.value.utf8.lexicographicallyPrecedes(b.value.utf8) : a.type < b.type
            }
        }
    }

    /// Reads a name that a person has written.
    ///
    /// - Throws: ``TLSError``.
    init(_ text: String) throws(TLSError) {
        var parser = Parser(text: text)
        self.init(components: try parser.parse())
    }

    /// As ``init(_:)`` reads it; on one line, with nothing that a terminal would obey.
    var description: String {
        components.map { component in
            component.map { "\(Self.keyword($0.type))=\(Self.escaped($0.value))" }.joined(separator: "+")
        }.joined(separator: ",")
    }

    private static func keyword(_ type: String) -> String {
        keywords.first { $0.type == type }?.keyword ?? type
    }

    private static func escaped(_ value: String) -> String {
        var result = ""
        let scalars = Array(value.unicodeScalars)
        for (index, scalar) in scalars.enumerated() {
            let isAtEdge = index == 0 || index == scalars.count - 1
            switch scalar {
            case "\"", "+", ",", ";", "<", ">", "\\": result += "\\\(scalar)"
            case " " where isAtEdge: result += "\\ "
            case "#" where index == 0: result += "\\#"
            default:
                if scalar.isShown {
                    result.unicodeScalars.append(scalar)
                } else {
                    result += String(scalar).utf8.map { "\\" + $0.hexadecimal(uppercase: true) }.joined()
                }
            }
        }
        return result
    }

    /// The first keyword of a type is the one that is written.
    static let keywords: [(keyword: String, type: String)] = [
        ("CN", "2.5.4.3"), ("O", "2.5.4.10"), ("OU", "2.5.4.11"), ("L", "2.5.4.7"), ("ST", "2.5.4.8"), ("S", "2.5.4.8"),
        ("C", "2.5.4.6"), ("STREET", "2.5.4.9"), ("DC", "0.9.2342.19200300.100.1.25"),
        ("UID", "0.9.2342.19200300.100.1.1"), ("EMAIL", "1.2.840.113549.1.9.1"),
        ("emailAddress", "1.2.840.113549.1.9.1"), ("E", "1.2.840.113549.1.9.1"), ("serialNumber", "2.5.4.5"),
        ("title", "2.5.4.12"), ("givenName", "2.5.4.42"), ("GN", "2.5.4.42"), ("SN", "2.5.4.4"),
        ("surname", "2.5.4.4"), ("initials", "2.5.4.43"), ("generationQualifier", "2.5.4.44"),
        ("dnQualifier", "2.5.4.46"), ("pseudonym", "2.5.4.65"), ("name", "2.5.4.41"), ("description", "2.5.4.13"),
        ("postalCode", "2.5.4.17"), ("businessCategory", "2.5.4.15"), ("organizationIdentifier", "2.5.4.97"),
    ]
}
