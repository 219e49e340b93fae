// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Which stored clusters of an image that is not encrypted are known to read as zeros: those in holes of the file.
///
/// An answer about the file is kept for the next question; one value serves one call of ``BlockDevice/extent(at:limit:_:)``.
struct HostHoles {
    private let file: any BlockDevice
    private let clusterSize: UInt64
    private let mode: ReadMode
    /// The last answer of the file.
    private var latest: Extent?

    /// - Parameter file: holds the clusters.
    init(file: any BlockDevice, clusterSize: UInt64, _ mode: ReadMode) {
        self.file = file
        self.mode = mode
        self.clusterSize = clusterSize
    }

    /// What the bytes at `host` are, and how far that holds.
    ///
    /// The end of the last cluster of a file may be missing, and reads as zeros. A cluster that starts beyond the end
    /// cannot be read, which is for the read to say.
    /// - Parameters:
    ///   - host: a byte of the file.
    ///   - inCluster: how far it is from the start of its cluster, in bytes.
    ///   - limit: the answer covers at most this many bytes, which lie together in the file; more than 0.
    /// - Throws: ``BlockError/wouldBlock`` alone.
    mutating func extent(
        at host: UInt64, inCluster: UInt64, limit: UInt64
    ) throws(BlockError) -> (kind: Extent.Kind, length: UInt64) {
        guard host < file.size else {
            let isMissing = host - inCluster >= file.size
            return isMissing ? (.data, limit) : (.storedZeros, min(limit, clusterSize - inCluster))
        }
        var known = latest.flatMap { Self.rest(of: $0, from: host) }
        if known == nil { known = try ask(host) }
        guard let known else { return (.data, limit) }
        let length = min(limit, known.length)
        switch known.kind {
        case .data, .compressed: return (.data, length)
        case .zero, .storedZeros, .unallocated: return (.storedZeros, length)
        }
    }

    /// Nil when the file cannot say.
    private mutating func ask(_ host: UInt64) throws(BlockError) -> Extent? {
        do { latest = try file.extent(at: host, limit: file.size - host, mode) } catch {
            guard error.code != .wouldBlock else { throw error }
            latest = nil
        }
        return latest
    }

    private static func rest(of extent: Extent, from host: UInt64) -> Extent? {
        guard host >= extent.offset, host - extent.offset < extent.length else { return nil }
        return Extent(offset: host, length: extent.length - (host - extent.offset), kind: extent.kind)
    }
}
