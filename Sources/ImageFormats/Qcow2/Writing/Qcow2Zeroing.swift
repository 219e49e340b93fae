// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Makes zeros of a part of the disk, or gives it up: a piece of work of a ``Qcow2Writer``, which has the range of clusters.
struct Qcow2Zeroing {
    private let writer: Qcow2Writer
    private let options: ZeroOptions
    private let mapping: Qcow2Mapping
    /// What is behind the end of the disk in its last cluster belongs to it.
    private let end: UInt64

    init(_ writer: Qcow2Writer, _ options: ZeroOptions) {
        self.writer = writer
        self.options = options
        mapping = writer.mapping
        end = mapping.virtualSize
    }

    // MARK: Zeros

    /// Makes zeros of bytes that are within the disk.
    func zero(_ range: ByteRange) throws(BlockError) {
        let unit = mapping.unitSize
        let start = min(range.end, range.offset.roundedUp(to: unit))
        let stop = range.end == end ? end : max(start, range.end / unit * unit)
        if options.contains(.fastOnly) {
            guard start < stop, mapping.version >= 3 || options.contains(.mayDiscard) && writer.image.backing == nil
            else { throw .notSupported }
        }
        try writeZeros(range.offset..<start)
        try zeroUnits(start..<stop)
        try writeZeros(stop..<max(stop, range.end))
    }

    /// Makes zeros of whole units.
    private func zeroUnits(_ range: Range<UInt64>) throws(BlockError) {
        guard !range.isEmpty else { return }
        if mapping.hasDataFile, writer.image.cipher == nil,
            let bytes = ByteRange(offset: range.lowerBound, length: UInt64(range.count))
        {
            try writer.zeroData(bytes, options)
        }
        try forEachSlice(of: range) { (states, first) throws(BlockError) in
            var new = states
            var others: [Range<UInt64>] = []
            for (index, state) in states.enumerated() {
                let cluster = GuestOffset(first.bytes + UInt64(index) * mapping.clusterSize)
                let part = part(of: range, in: cluster)
                let units = mapping.units(touching: part.lowerBound - cluster.bytes..<part.upperBound - cluster.bytes)
                // Nobody sees what is behind the end.
                let reached = part.upperBound == end ? units | ~(units | (units - 1)) & mapping.allUnits : units
                switch state.zeroing(
                    reached, mayFree: options.contains(.mayDiscard), hasBacking: writer.hasBacking(cluster), mapping)
                {
                case .nothing: break
                case .change(let state): new[index] = state
                case .write: others.append(part)
                }
            }
            if new != states {
                try writer.replace(states, by: new, at: first, isDiscard: options.contains(.mayDiscard))
            }
            for part in others { try writeZeros(part) }
        }
    }

    /// Writes zeros where something else is.
    private func writeZeros(_ range: Range<UInt64>) throws(BlockError) {
        var position = range.lowerBound
        while position < range.upperBound {
            let cluster = GuestOffset(position - position % mapping.clusterSize)
            let part = part(of: position..<range.upperBound, in: cluster)
            let state = try writer.states(from: cluster, limit: 1)[0]
            let units = mapping.units(touching: part.lowerBound - cluster.bytes..<part.upperBound - cluster.bytes)
            if units & ~(writer.hasBacking(cluster) ? state.zeros : ~state.data) != 0 {
                var done: UInt64 = 0
                while done < UInt64(part.count) {
                    // A layer encrypts in place: each time, they are other bytes afterwards.
                    var zeros = [UInt8](repeating: 0, count: part.count - Int(done))
                    done += UInt64(
                        try zeros.withMutableBytes { (zeros) throws(BlockError) in
                            try writer.rewrite(&zeros, at: GuestOffset(part.lowerBound + done))
                        })
                }
            }
            position = part.upperBound
        }
    }

    // MARK: Giving up

    /// Gives up the whole clusters in a range that is within the disk.
    func discard(_ range: ByteRange) throws(BlockError) {
        let size = mapping.clusterSize
        let start = range.offset.roundedUp(to: size)
        let stop = range.end == end ? end : range.end / size * size
        guard start < stop else { return }
        if mapping.hasDataFile, writer.image.cipher == nil,
            let bytes = ByteRange(offset: start, length: stop - start)
        {
            // What its owner has given up must not be less than zeros for those who read the data file alone.
            try writer.zeroData(bytes, .mayDiscard)
        }
        try forEachSlice(of: start..<stop) { (states, first) throws(BlockError) in
            let new = states.enumerated().map { index, state in
                let cluster = GuestOffset(first.bytes + UInt64(index) * size)
                return state.discarded(hasBacking: writer.hasBacking(cluster), mapping)
            }
            if new != states { try writer.replace(states, by: new, at: first, isDiscard: true) }
        }
    }

    // MARK: Going through the disk

    /// Calls `body` for the clusters of a range, those of a slice of an L2 table at a time, with what their entries say and the
    /// first byte; not for those without an entry that read as zeros.
    private func forEachSlice(
        of range: Range<UInt64>, _ body: ([Qcow2ClusterState], GuestOffset) throws(BlockError) -> Void
    ) throws(BlockError) {
        let size = mapping.clusterSize
        var position = range.lowerBound
        while position < range.upperBound {
            let first = GuestOffset(position - position % size)
            if let missing = try writer.missingLength(from: first), !writer.hasBacking(first) {
                position = first.bytes + missing
                continue
            }
            let count = (range.upperBound - 1) / size - first.bytes / size + 1
            let states = try writer.states(from: first, limit: Int(min(count, UInt64(mapping.sliceWords))))
            try body(states, first)
            position = first.bytes + UInt64(states.count) * size
        }
    }

    private func part(of range: Range<UInt64>, in cluster: GuestOffset) -> Range<UInt64> {
        range.clamped(to: cluster.bytes..<(cluster.bytes + mapping.clusterSize))
    }
}
