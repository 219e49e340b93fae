// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A place in a volume where something that identifies its contents may stand.
///
/// Every recogniser checks at least 56 bits, most of them far more than 64: with 65 volumes and 17 places each, the
/// chance that noise is recognised anywhere is below 2 × 10^-14.
struct Signature: Sendable {
    /// The place in bytes from the start of the volume, whose length in bytes is given; nil when the volume has none.
    private let place: @Sendable (UInt64) -> UInt64?
    /// How many bytes the recogniser looks at.
    private let count: Int
    /// What stands there, given these bytes and their place; nil when it is unknown.
    private let name: @Sendable (SuperblockBytes, UInt64) -> String?

    /// What is recognised in a volume, in bytes that have passed the cipher.
    static func recognise(_ volume: ByteRange, _ reader: inout EvidenceReader) -> [String] {
        var names: [String] = []
        for signature in all {
            guard let place = signature.place(volume.length),
                let range = ByteRange(offset: volume.offset, length: place),
                let bytes = reader.fields(at: range.end, count: signature.count),
                let name = signature.name(bytes, place),
                reader.isEvidence(at: range.end, count: signature.count)
            else { continue }
            names.append(name)
        }
        return names
    }

    private static func at(
        _ offset: UInt64, count: Int = 512, name: @escaping @Sendable (SuperblockBytes) -> String?
    ) -> Signature {
        Signature(place: { _ in offset }, count: count, name: { bytes, _ in name(bytes) })
    }

    private static let all: [Signature] =
        [
            at(0) { BootSector.name($0) ?? Superblock.atStart($0) ?? VolumeLabel.luks($0) },
            at(512) { VolumeLabel.bsd($0) },
            at(1024) { ExtSuperblock.name($0) ?? Superblock.hfsPlus($0) ?? Superblock.f2fs($0) },
            at(4096 - 10, count: 10) { VolumeLabel.swap($0) },
            at(8192, count: 1536) { Superblock.ufs($0) ?? Superblock.reiserFS($0) },
            at(32768) { Superblock.opticalDisc($0) ?? Superblock.jfs($0) },
            at(65536 - 10, count: 10) { VolumeLabel.swap($0) },
            at(65536) { Superblock.btrfs($0) ?? Superblock.reiserFS($0) },
            at(65536, count: 1536) { Superblock.ufs($0) },
            Signature(place: RAIDSuperblock.placeOfVersion090, count: 512, name: RAIDSuperblock.version090),
            Signature(place: RAIDSuperblock.placeOfVersion10, count: 512, name: RAIDSuperblock.version1),
        ] + [0, 4096].map { place in Signature(place: { _ in place }, count: 512, name: RAIDSuperblock.version1) }
        + [0, 512, 1024, 1536].map { place in Signature(place: { _ in place }, count: 512, name: VolumeLabel.lvm) }
}
