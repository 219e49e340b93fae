// SPDX-License-Identifier: Apache-2.0

public import BlockIO

extension Qcow2Image {
    /// One answer goes by so many slices of the L2 table at most.
    private static let maximumSliceCount = 16
    /// One answer joins so many pieces of the file at most.
    private static let maximumPieceCount = 256

    /// Joins neighbours of the same kind as far as a few slices of the L2 table tell.
    ///
    /// Where nothing is stored, the backing device answers; beyond its end there are zeros that are its own. Stored
    /// clusters in a hole of the file are zeros, unless they are encrypted.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("qcow2: there is no byte \(offset)") }
        let limit = min(limit, size - offset)
        let first = try run(at: GuestOffset(offset), limit: limit, mode)
        switch first.entry {
        case .unallocated:
            // A layer asks the one below once for each answer: so do all, and a chain of any length is asked in no time.
            if let backing { return try backing.extent(behind: offset, length: first.length, mode) }
            return extent(.unallocated, at: offset, first.length, limit, mode)
        case .zero: return extent(.zero, at: offset, first.length, limit, mode)
        case .compressed: return extent(.compressed, at: offset, first.length, limit, mode)
        case .data, .invalid:
            return cipher == nil
                ? try plainData(at: offset, first, limit, mode) : extent(.data, at: offset, first.length, limit, mode)
        }
    }

    /// The extent of a kind that the tables alone tell: `known` bytes, and what is joined to them.
    private func extent(_ kind: Extent.Kind, at offset: UInt64, _ known: UInt64, _ limit: UInt64, _ mode: ReadMode)
        -> Extent
    {
        var length = known
        forEachRun(from: offset + known, to: offset + limit, mode) { next in
            guard Self.kind(next.entry) == kind else { return false }
            length += next.length
            return true
        }
        return Extent(offset: offset, length: length, kind: kind)
    }

    /// The extent of stored bytes that are not encrypted: data or zeros, as the file has it.
    private func plainData(
        at offset: UInt64, _ first: Run, _ limit: UInt64, _ mode: ReadMode
    ) throws(BlockError) -> Extent {
        var holes = HostHoles(file: dataFile, clusterSize: mapping.clusterSize, mode)
        var kind: Extent.Kind?
        var length: UInt64 = 0
        var pieceCount = 0
        /// Adds what of a run is of the same kind; false at the first byte that is not.
        func add(_ run: Run) throws(BlockError) -> Bool {
            guard Self.kind(run.entry) == .data else { return false }
            let end = length + run.length
            while length < end {
                guard pieceCount == 0 || mode.mayLook() else { return false }
                var piece = (kind: Extent.Kind.data, length: end - length)
                if case .data(let host) = run.entry {
                    let place = host.bytes + run.length - (end - length)
                    piece = try holes.extent(
                        at: place, inCluster: place % mapping.clusterSize, limit: end - length)
                }
                pieceCount += 1
                guard kind ?? piece.kind == piece.kind, pieceCount <= Self.maximumPieceCount else { return false }
                kind = piece.kind
                length += piece.length
            }
            return true
        }
        if try add(first) {
            // Where the next run's holes cannot be asked for, the answer ends.
            forEachRun(from: offset + first.length, to: offset + limit, mode) { (try? add($0)) ?? false }
        }
        return Extent(offset: offset, length: length, kind: kind ?? .data)
    }

    /// Calls `body` for the runs of a part of the disk until it returns false, a table cannot be read, or enough has been
    /// looked at.
    private func forEachRun(from start: UInt64, to end: UInt64, _ mode: ReadMode, _ body: (Run) -> Bool) {
        var position = start
        for _ in 0..<Self.maximumSliceCount where position < end {
            guard mode.mayLook(), let entries = try? tables.entries(at: GuestOffset(position), mode) else { return }
            let inCluster = position % mapping.clusterSize
            let known = min(end - position, UInt64(entries.count) * mapping.clusterSize - inCluster) + position
            while position < known {
                let run = try? run(at: GuestOffset(position), limit: known - position, mode)
                guard let run, body(run) else { return }
                position += run.length
            }
        }
    }

    private static func kind(_ entry: Qcow2Entry) -> Extent.Kind {
        switch entry {
        case .unallocated: .unallocated
        case .zero: .zero
        case .compressed: .compressed
        case .data, .invalid: .data
        }
    }
}

extension BlockDevice {
    /// What a layer above, in which nothing is stored from `offset` on, says of these bytes of its own disk; this is the
    /// device behind it.
    ///
    /// Beyond the end of this device there are zeros. As in QEMU, they count as this layer's.
    func extent(behind offset: UInt64, length: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size else { return Extent(offset: offset, length: length, kind: .unallocated, depth: 2) }
        let own = try extent(at: offset, limit: min(length, size - offset), mode)
        return Extent(
            offset: offset, length: own.length, kind: own.kind, depth: own.depth == 0 ? 0 : own.depth + 1)
    }
}
