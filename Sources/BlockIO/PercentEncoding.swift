// SPDX-License-Identifier: Apache-2.0

/// Text in URLs.
package enum PercentEncoding {
    /// Encodes all that is not unreserved (RFC 3986, section 2): `&`, `+` and `;` too, which some parsers of queries take for
    /// more than text.
    ///
    /// - Parameter extra: characters of ASCII that stay what they are, too.
    package static func encoded(_ text: String, keeping extra: String = "") -> String {
        text.utf8.map { byte in
            isUnreserved(byte) || extra.utf8.contains(byte)
                ? String(UnicodeScalar(byte)) : "%" + byte.hexadecimal(uppercase: true)
        }.joined()
    }

    /// RFC 3986, section 2.3.
    package static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            true
        default: false
        }
    }
}
