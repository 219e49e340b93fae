// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Unpacks the compressed clusters of an image, and keeps some of them unpacked. Any thread may call.
struct CompressedClusters: Sendable {
    private let formatName: String
    private let clusterSize: Int
    private let decompressor: Decompressor
    private let share: CacheShare

    /// - Parameters:
    ///   - formatName: what sentences begin with.
    ///   - clusterSize: unpacked, in bytes.
    ///   - share: of the file that holds the clusters.
    init(formatName: String, clusterSize: Int, _ compression: Qcow2Header.Compression, _ share: CacheShare) {
        self.formatName = formatName
        self.clusterSize = clusterSize
        self.decompressor = Decompressor(compression)
        self.share = share
    }

    /// Fills `part`, which is no longer than what follows in `cluster`, with the bytes from that of `guest` on.
    ///
    /// - Throws: ``BlockError/wouldBlock`` when the cluster is not known unpacked and the caller may not wait.
    func read(
        _ part: inout MutableRawSpan, of cluster: CompressedCluster, at guest: GuestOffset, _ mode: ReadMode
    ) throws(BlockError) {
        try share.read(
            &part, from: Int(guest.bytes % UInt64(clusterSize)), of: cluster, size: clusterSize, mode
        ) { (output) throws(BlockError) in try unpack(cluster, into: &output, guest) }
    }

    private func unpack(
        _ cluster: CompressedCluster, into output: inout MutableRawSpan, _ guest: GuestOffset
    ) throws(BlockError) {
        let (file, offset) = (share.file, cluster.offset.bytes)
        let place = "\(formatName): guest offset \(guest.bytes): the compressed cluster at byte \(offset)"
        // What must be there. The offset is less than 2^62.
        let needed = cluster.isExact ? cluster.length : 1
        guard offset + UInt64(needed) <= file.size else {
            throw .damaged(
                "\(place)\(cluster.isExact ? "+\(cluster.length)" : "") lies outside the file's \(file.size) bytes: "
                    + "the file is not complete")
        }
        let length = Int(min(UInt64(cluster.length), file.size - offset))
        let packed = try file.read(count: length, at: offset)
        let fault = packed.withBytes { decompressor.decompress($0, into: &output) }
        if let fault { throw .damaged("\(place)+\(length): \(fault)") }
    }
}
