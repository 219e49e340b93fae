// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Writes to a part of the disk that is not stored in clusters of its own: a piece of work of a ``Qcow2Writer``, which has the
/// range of clusters.
///
/// What a cluster had before, in a place that it shares, in compressed form or behind it, is written together with what is new.
struct Qcow2CopyOnWrite {
    private let writer: Qcow2Writer
    private let mapping: Qcow2Mapping

    init(_ writer: Qcow2Writer) {
        self.writer = writer
        mapping = writer.mapping
    }

    /// Writes the first bytes, as far as they are in the same situation.
    /// - Returns: how many.
    func write(_ bytes: inout MutableRawSpan, at guest: GuestOffset) throws(BlockError) -> Int {
        let size = mapping.clusterSize
        let first = GuestOffset(guest.bytes - guest.bytes % size)
        let last = (guest.bytes + UInt64(bytes.byteCount) - 1) / size
        let states = try writer.states(from: first, limit: Int(last - first.bytes / size) + 1)
        if let host = states[0].ownPlace {
            let count = Int(min(UInt64(bytes.byteCount), first.bytes + size - guest.bytes))
            try bytes.withSlice(0..<count) { (part) throws(BlockError) in
                try complete(&part, at: guest, states[0], in: HostOffset(host))
            }
            return count
        }
        return try allocate(for: &bytes, at: guest, Array(states.prefix { $0.ownPlace == nil }))
    }

    /// Writes to a cluster that has a place, in which the bytes are not data so far.
    private func complete(
        _ bytes: inout MutableRawSpan, at guest: GuestOffset, _ old: Qcow2ClusterState, in host: HostOffset
    ) throws(BlockError) {
        let part = ClusterPart(guest, bytes.byteCount, mapping)
        try writePart(&bytes, part, stored: part.hull(around: old.data, mapping), at: host)
        let units = mapping.units(touching: part.range)
        let new = Qcow2ClusterState(place: old.place, data: old.data | units, zeros: old.zeros & ~units)
        try writer.replace([old], by: [new], at: part.cluster)
    }

    /// Writes to clusters that have no place of their own.
    private func allocate(
        for bytes: inout MutableRawSpan, at guest: GuestOffset, _ old: [Qcow2ClusterState]
    ) throws(BlockError) -> Int {
        let size = mapping.clusterSize
        let first = GuestOffset(guest.bytes - guest.bytes % size)
        let run = try writer.allocate(old.count, at: first)
        do {
            let count = min(
                UInt64(bytes.byteCount),
                first.bytes + UInt64(run.clusters.count) << UInt64(mapping.clusterBits) - guest.bytes)
            let new = try bytes.withSlice(0..<Int(count)) { (bytes) throws(BlockError) in
                try fill(run, with: &bytes, at: guest, old)
            }
            try writer.replace(Array(old.prefix(new.count)), by: new, at: first)
            return Int(count)
        } catch {
            writer.abandon(run)
            throw error
        }
    }

    /// Writes bytes to new clusters, and what of the old ones has to be kept.
    /// - Returns: what their entries are to say.
    private func fill(
        _ run: Qcow2Allocator.Run, with bytes: inout MutableRawSpan, at guest: GuestOffset, _ old: [Qcow2ClusterState]
    ) throws(BlockError) -> [Qcow2ClusterState] {
        let size = mapping.clusterSize
        var new: [Qcow2ClusterState] = []
        var done = 0
        while done < bytes.byteCount {
            let position = GuestOffset(guest.bytes + UInt64(done))
            let host = HostOffset((run.clusters.lowerBound + UInt64(new.count)) * size)
            let rest = UInt64(bytes.byteCount - done)
            let isWhole = position.bytes % size == 0 && rest >= size
            // Whole clusters are written together, straight from where they are.
            let count = isWhole ? rest / size * size : min(rest, size - position.bytes % size)
            let part = ClusterPart(position, Int(min(count, size)), mapping)
            let state = old[new.count]
            try bytes.withSlice(done..<(done + Int(count))) { (bytes) throws(BlockError) in
                guard !isWhole else { return try writer.store(&bytes, of: position, at: host) }
                let stored =
                    run.isFresh && readsAsZeros(state, part.cluster) && writer.image.cipher == nil
                    ? part.range : part.hull(keeping: state.data, mapping)
                try writePart(&bytes, part, stored: stored, at: host)
            }
            let units = mapping.units(touching: part.range)
            for index in 0..<(isWhole ? count / size : 1) {
                let state = old[new.count]
                new.append(
                    Qcow2ClusterState(
                        place: .own(host.bytes + index * size), data: state.data | units, zeros: state.zeros & ~units))
            }
            done += Int(count)
        }
        return new
    }

    /// Does all of a cluster read as zeros?
    private func readsAsZeros(_ state: Qcow2ClusterState, _ cluster: GuestOffset) -> Bool {
        state.data == 0 && (state.zeros == mapping.allUnits || !writer.hasBacking(cluster))
    }

    /// Writes a part of a cluster, and what is around it as it reads now.
    ///
    /// - Parameters:
    ///   - stored: what is written, in bytes of the cluster; `part` is in it.
    ///   - host: where the cluster begins.
    private func writePart(
        _ bytes: inout MutableRawSpan, _ part: ClusterPart, stored: Range<UInt64>, at host: HostOffset
    ) throws(BlockError) {
        let guest = GuestOffset(part.cluster.bytes + stored.lowerBound)
        let place = HostOffset(host.bytes + stored.lowerBound)
        guard stored != part.range else { return try writer.store(&bytes, of: guest, at: place) }
        var memory = [UInt8](repeating: 0, count: stored.count)
        try memory.withMutableBytes { (memory) throws(BlockError) in
            let head = Int(part.range.lowerBound - stored.lowerBound)
            let tail = head + bytes.byteCount
            try memory.withSlice(0..<head) { (old) throws(BlockError) in try writer.readOld(&old, at: guest.bytes) }
            let count = memory.byteCount
            try memory.withSlice(tail..<count) { (old) throws(BlockError) in
                try writer.readOld(&old, at: guest.bytes + UInt64(tail))
            }
            memory.withSlice(head..<tail) { $0.copy(from: bytes.bytes) }
            try writer.store(&memory, of: guest, at: place)
        }
    }
}
