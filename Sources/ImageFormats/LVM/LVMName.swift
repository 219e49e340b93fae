// SPDX-License-Identifier: Apache-2.0

/// Names and identifiers of LVM. Source: lvm(8), "VALID NAMES".
enum LVMName {
    /// As long as the name of a volume group or of a logical volume may be, in characters.
    static let maximumLength = 127

    /// May a volume group or a logical volume be called so?
    static func isValid(_ name: String) -> Bool {
        let bytes = name.utf8
        return (1...maximumLength).contains(bytes.count) && bytes.first != UInt8(ascii: "-") && name != "."
            && name != ".." && bytes.allSatisfy { isAlphanumeric($0) || "+_.-".utf8.contains($0) }
    }

    /// May an identifier on disk have this character?
    static func isIdentifierByte(_ byte: UInt8) -> Bool { isAlphanumeric(byte) || "!#".utf8.contains(byte) }

    /// An identifier in the text, without its dashes; nil when it is none.
    static func identifier(_ text: String) -> String? {
        let bytes = text.utf8.filter { $0 != UInt8(ascii: "-") }
        guard bytes.count == 32, bytes.allSatisfy(isIdentifierByte) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"):
            true
        default: false
        }
    }
}
