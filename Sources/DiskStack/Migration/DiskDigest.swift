// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto

/// SHA-256 of the SHA-256 digests of all blocks of a disk, in their order.
///
/// Unlike a plain SHA-256 of the disk it can be computed by several threads in any order, and a terabyte of zeros costs
/// nothing. `split --bytes 1M` and `sha256sum` compute it, too; docs/migrating.md shows how.
public struct DiskDigest: Equatable, Sendable, CustomStringConvertible {
    /// In bytes.
    static let size = 32

    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// In hexadecimal.
    public var description: String { bytes.hexadecimal() }
}

/// The digests of the blocks of a disk, as they become known; any thread may add one.
final class BlockDigests: Sendable {
    let blocks: DiskBlocks
    private let hash: HashAlgorithm
    /// One behind the other; nothing but zeros stands for a block of zeros.
    private let digests: Locked<[UInt8]>

    /// All blocks are zeros at first.
    init(_ blocks: DiskBlocks) {
        self.blocks = blocks
        do { hash = try HashAlgorithm("sha256") } catch {
            preconditionFailure("every libgcrypt has SHA-256: \(error)")
        }
        digests = Locked([UInt8](repeating: 0, count: blocks.count * DiskDigest.size))
    }

    /// Computes the digest of a block from its bytes.
    func add(_ index: Int, _ bytes: RawSpan) {
        guard !bytes.isZero else { return }
        let digest = digest(bytes)
        let start = index * DiskDigest.size
        digests.withLock { $0.replaceSubrange(start..<start + DiskDigest.size, with: digest) }
    }

    private func digest(_ bytes: RawSpan) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: DiskDigest.size)
        digest.withMutableBytes { hash.hash(bytes, into: &$0) }
        return digest
    }

    /// The first block that is not the same in another disk of this size.
    func firstDifference(from other: BlockDigests) -> Int? {
        let (mine, others) = (digests.withLock { $0 }, other.digests.withLock { $0 })
        guard mine != others else { return nil }
        return (0..<blocks.count).first { index in
            let place = index * DiskDigest.size..<(index + 1) * DiskDigest.size
            return mine[place] != others[place]
        }
    }

    /// Of the whole disk, when all blocks are there.
    var total: DiskDigest {
        var all = digests.withLock { $0 }
        let last = blocks.count - 1
        var zeros: [UInt64: [UInt8]] = [:]
        for index in 0..<blocks.count {
            let place = index * DiskDigest.size..<(index + 1) * DiskDigest.size
            guard all[place].allSatisfy({ $0 == 0 }) else { continue }
            let length = index == last ? blocks.range(index).length : blocks.blockSize
            let ofZeros = zeros[length] ?? [UInt8](repeating: 0, count: Int(length)).withBytes { digest($0) }
            zeros[length] = ofZeros
            all.replaceSubrange(place, with: ofZeros)
        }
        return DiskDigest(all.withBytes { digest($0) })
    }
}
