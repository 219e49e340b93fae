// SPDX-License-Identifier: Apache-2.0

/// A LUKS volume with one thing wrong, and what has to be said about it.
public struct LUKSDamage: Sendable, CustomStringConvertible {
    /// Names the fault.
    public let description: String
    /// 1 or 2.
    public let version: Int
    /// What the message must contain: structure and field, place, what was found and what is allowed.
    public let sentence: String
    /// The header in order; the same file without the fault.
    public let original: LUKSTestImage
    /// The file with the fault.
    public let image: LUKSTestImage

    /// Every fault that is known, each with its own name.
    public static let all = luks1 + luks2Binary + luks2JSON + luks2Keyslots + luks2Segments + luks2Others

    init(_ description: String, _ version: Int, _ original: LUKSTestImage, _ image: LUKSTestImage, _ sentence: String) {
        self.description = "LUKS\(version): \(description)"
        self.version = version
        self.sentence = sentence
        self.original = original
        self.image = image
    }
}

extension LUKSDamage {
    /// The header is in order, as far as can be told: only the data is not in the file, as in the backup of a header.
    public var isWithoutData: Bool { Self.withoutData.contains(description) }

    private static let withoutData: Set<String> = [
        "LUKS1: a file that ends where the data starts", "LUKS1: data beyond the file", "LUKS1: no place of the data",
        "LUKS2: a segment at 2^64 - 512", "LUKS2: a segment at the start of the file",
        "LUKS2: a segment beyond the file",
    ]
}
