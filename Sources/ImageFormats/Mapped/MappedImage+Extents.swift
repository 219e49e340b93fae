// SPDX-License-Identifier: Apache-2.0

import BlockIO

extension MappedImage {
    /// One answer goes by so many slices of the L2 table at most, and that of its first byte.
    private static var maximumSliceCount: Int { 16 }
    /// One answer joins so many pieces of the file at most.
    private static var maximumPieceCount: Int { 256 }

    /// Joins neighbours of the same kind as far as a few slices of the L2 table tell.
    ///
    /// Where nothing is stored, the backing device answers; beyond its end there are zeros that are its own. Stored
    /// clusters in a hole of the file are zeros, unless they are encrypted.
    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < mapping.virtualSize, limit > 0 else {
            throw .outOfRange("\(Mapping.formatName): there is no byte \(offset)")
        }
        let limit = min(limit, mapping.virtualSize - offset)
        var runs = MappedRuns(of: tables, from: offset)
        let first = try runs.next(limit: limit, mode)
        switch first.cluster {
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
        forEachRun(from: offset + known, to: offset + limit, mode) { _, next in
            guard next.cluster.kind == kind else { return false }
            length += next.length
            return true
        }
        return Extent(offset: offset, length: length, kind: kind)
    }

    /// The extent of stored bytes that are not encrypted: data or zeros, as the file has it.
    private func plainData(
        at offset: UInt64, _ first: MappedRun, _ limit: UInt64, _ mode: ReadMode
    ) throws(BlockError) -> Extent {
        var holes = HostHoles(file: dataFile, clusterSize: mapping.clusterSize, mode)
        var kind: Extent.Kind?
        var length: UInt64 = 0
        var pieceCount = 0
        /// Adds what of a run, which starts at `guest`, is of the same kind; false at the first byte that is not.
        func add(_ guest: UInt64, _ run: MappedRun) throws(BlockError) -> Bool {
            guard run.cluster.kind == .data else { return false }
            let end = length + run.length
            while length < end {
                guard pieceCount == 0 || mode.mayLook() else { return false }
                var piece = (kind: Extent.Kind.data, length: end - length)
                if case .data(let host) = run.cluster {
                    let done = run.length - (end - length)
                    piece = try holes.extent(
                        at: host.bytes + done, inCluster: (guest + done) % mapping.clusterSize, limit: end - length)
                }
                pieceCount += 1
                guard kind ?? piece.kind == piece.kind, pieceCount <= Self.maximumPieceCount else { return false }
                kind = piece.kind
                length += piece.length
            }
            return true
        }
        if try add(offset, first) {
            // Where the next run's holes cannot be asked for, the answer ends.
            forEachRun(from: offset + first.length, to: offset + limit, mode) { (try? add($0, $1)) ?? false }
        }
        return Extent(offset: offset, length: length, kind: kind ?? .data)
    }

    /// Calls `body` for the runs of a part of the disk, each with its first byte, until it returns false, a table cannot be
    /// read, or enough has been looked at.
    private func forEachRun(
        from start: UInt64, to end: UInt64, _ mode: ReadMode, _ body: (UInt64, MappedRun) -> Bool
    ) {
        var runs = MappedRuns(of: tables, from: start)
        var sliceCount = 0
        while runs.position < end {
            if runs.needsLookUp {
                sliceCount += 1
                guard sliceCount <= Self.maximumSliceCount, mode.mayLook() else { return }
            }
            let position = runs.position
            guard let run = try? runs.next(limit: end - position, mode), body(position, run) else { return }
        }
    }
}

extension MappedCluster {
    /// What it is to those who ask about extents. An entry that is not allowed is data, for the read to refuse.
    fileprivate var kind: Extent.Kind {
        switch self {
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
    fileprivate func extent(behind offset: UInt64, length: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size else { return Extent(offset: offset, length: length, kind: .unallocated, depth: 2) }
        let own = try extent(at: offset, limit: min(length, size - offset), mode)
        return Extent(
            offset: offset, length: own.length, kind: own.kind, depth: own.depth == 0 ? 0 : own.depth + 1)
    }
}
