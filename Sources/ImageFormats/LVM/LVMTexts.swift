// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The texts that have been found on one disk: each is parsed and kept once, however many physical volumes have it, and all of
/// them together are bounded.
///
/// A partition table can name thousands of partitions that lie upon each other.
public struct LVMTexts: Sendable {
    /// Of all that is read, in bytes: as much as 256 physical volumes have with texts of 1 MiB.
    static let maximumReadSize: UInt64 = 256 << 20
    /// Of different texts, in bytes.
    static let maximumKeptSize = 64 << 20
    /// How many physical volumes are looked into.
    public static let maximumVolumes = 1024

    private var descriptions: [[UInt8]: LVMGroupDescription] = [:]
    private var readSize: UInt64 = 0
    private var keptSize = 0
    private var volumeCount = 0

    /// Nothing has been read.
    public init() {}

    /// To be asked before a physical volume is read.
    mutating func countVolume() throws(FormatError) {
        volumeCount += 1
        guard volumeCount <= Self.maximumVolumes else {
            throw .unsupported(
                "the disk has more than \(Self.maximumVolumes) LVM physical volumes; choose one with \(remedy: .partition(nil))"
            )
        }
    }

    /// To be asked before a text is read.
    mutating func countRead(_ byteCount: UInt64) throws(FormatError) {
        // Each is at most 16 MiB, and nothing is read any more behind the limit.
        guard readSize + byteCount <= Self.maximumReadSize else { throw Self.tooMuch }
        readSize += byteCount
    }

    /// What a text says.
    mutating func description(of text: [UInt8], at place: UInt64) throws(FormatError) -> LVMGroupDescription {
        if let known = descriptions[text] { return known }
        guard keptSize + text.count <= Self.maximumKeptSize else { throw Self.tooMuch }
        keptSize += text.count
        let description = try LVMGroupDescription(text, at: place)
        descriptions[text] = description
        return description
    }

    private static let tooMuch = FormatError.unsupported(
        "the disk has more than \(maximumReadSize) bytes of LVM metadata, or \(maximumKeptSize) of it that is not the same; choose a physical volume with \(remedy: .partition(nil))"
    )
}
