// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// What is wrong with one copy of a header.
///
/// It becomes a ``FormatError`` when no other copy can stand in, and a warning when one can.
struct LUKSFault: Error, Equatable {
    /// Structure and field, e.g. "LUKS2 metadata: keyslots.0.area.offset".
    let field: String
    /// Where in the file, in bytes from the start of the header.
    let offset: UInt64
    let found: String
    let allowed: String
    /// What to do about it; nil: the usual advice for a damaged file.
    let advice: Sentence?
    /// The system's words when the bytes could not be read at all.
    let unreadable: String?

    init(
        _ field: String, at offset: UInt64, found: some CustomStringConvertible, allowed: String,
        advice: Sentence? = nil
    ) {
        self.field = field
        self.offset = offset
        self.found = found.description
        self.allowed = allowed
        self.advice = advice
        self.unreadable = nil
    }

    init(unreadable: String, _ field: String, at offset: UInt64) {
        self.field = field
        self.offset = offset
        self.found = "bytes that cannot be read (\(unreadable))"
        self.allowed = "bytes that can be read"
        self.advice = nil
        self.unreadable = unreadable
    }

    /// The fault without advice, for a warning.
    var sentence: String { "\(field) at byte \(offset): found \(found), allowed \(allowed)" }

    /// Whether this and another copy are wrong in the same way.
    func isTheSame(as other: LUKSFault) -> Bool {
        field == other.field && found == other.found && allowed == other.allowed
    }

    /// The error when this is all that there is to say.
    var error: FormatError {
        if let unreadable { return .unreadable(Sentence(unreadable)) }
        return .damaged(field, at: offset, found: found, allowed: allowed, advice: advice)
    }
}

/// Reads `count` bytes; the caller has checked that they exist and how many they are.
/// - Throws: a fault of `field` when they cannot be read.
func readLUKS(
    _ device: any BlockDevice, at offset: UInt64, count: Int, _ field: String
) throws(LUKSFault) -> [UInt8] {
    do { return try device.read(count: count, at: offset) } catch {
        throw LUKSFault(unreadable: error.description, field, at: offset)
    }
}

/// Text of a header.
enum LUKSText {
    /// Whether `text` may be the name of a cipher or hash: ASCII without spaces.
    static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }
}
