// SPDX-License-Identifier: Apache-2.0

public import BlockIO

extension QcowImage {
    /// One answer goes by so many slices of the L2 table at most.
    private static let maximumSliceCount = 16
    /// One answer joins so many pieces of the file at most.
    private static let maximumPieceCount = 256

    /// Joins neighbours of the same kind as far as a few slices of the L2 table tell.
    ///
    /// Where nothing is stored, the backing file answers; beyond its end there are zeros that are its own. Stored
    /// clusters in a hole of the file are zeros, unless they are encrypted.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("qcow: there is no byte \(offset)") }
        let limit = min(limit, size - offset)
        var holes = HostHoles(file: file, clusterSize: clusterSize, mode)
        var kind: Extent.Kind?
        var length: UInt64 = 0
        var pieceCount = 0
        slices: for _ in 0..<Self.maximumSliceCount where length < limit {
            let start = offset + length
            let entries: QcowTables.Entries
            guard length == 0 || mode.mayLook() else { break }
            do { entries = try tables.entries(at: GuestOffset(start), mode) } catch {
                guard length > 0 else { throw error }
                break
            }
            let known = length + min(limit - length, UInt64(entries.count) * clusterSize - start % clusterSize)
            while length < known {
                let run = run(in: entries, start, at: GuestOffset(offset + length), limit: known - length)
                let piece: (kind: Extent.Kind, length: UInt64)
                do { piece = try self.piece(of: run, at: offset + length, &holes) } catch {
                    guard length > 0 else { throw error }
                    break slices
                }
                if case .data = run.entry, cipher == nil {
                    pieceCount += 1
                    guard pieceCount == 1 || mode.mayLook() else { break slices }
                }
                guard kind ?? piece.kind == piece.kind, pieceCount <= Self.maximumPieceCount else { break slices }
                kind = piece.kind
                length += piece.length
            }
            // Of what lies behind one slice the backing file is asked at once.
            if kind == .unallocated, backing != nil { break }
        }
        if kind == .unallocated, let backing { return try backing.extent(behind: offset, length: length, mode) }
        return Extent(offset: offset, length: length, kind: kind ?? .data)
    }

    /// The start of a run, as far as it is of one kind; the run starts at the byte `guest`.
    private func piece(
        of run: Run, at guest: UInt64, _ holes: inout HostHoles
    ) throws(BlockError) -> (kind: Extent.Kind, length: UInt64) {
        switch run.entry {
        case .unallocated: return (.unallocated, run.length)
        case .compressed: return (.compressed, run.length)
        case .invalid: return (.data, run.length)
        case .data(let cluster):
            guard cipher == nil else { return (.data, run.length) }
            let inCluster = guest % clusterSize
            return try holes.extent(at: cluster.bytes + inCluster, inCluster: inCluster, limit: run.length)
        }
    }
}
