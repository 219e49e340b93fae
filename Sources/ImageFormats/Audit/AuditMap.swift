// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// What lies where in a file, or on the disk in it: a number of cells that does not grow with either.
public struct AuditMap: Sendable {
    /// What bytes are.
    public enum Kind: Int, Sendable, CaseIterable {
        /// Cannot be right: an entry that leads nowhere, or a cluster with owners that cannot share it.
        case damaged
        /// Compressed clusters of an encrypted image: whoever has the file can unpack them.
        case exposed
        /// Marked as used, but used by nothing.
        case lost
        /// Guest data that is used more than once: by the disk and its snapshots.
        case shared
        /// Guest data, encrypted.
        case encrypted
        /// Guest data, not encrypted.
        case plain
        /// Guest data, compressed and not encrypted.
        case compressed
        /// LUKS headers and keyslots.
        case keyslots
        /// Headers and tables of the image.
        case tables
        /// Known to be zeros.
        case zeros
        /// Nothing is stored.
        case free
        /// Not examined.
        case unseen
    }

    /// What the map is of.
    public enum Subject: Sendable {
        case file
        /// The guest's disk, as far as this file has it.
        case disk
    }

    /// A part of the file or disk.
    public struct Cell: Equatable, Sendable {
        /// Of the file or disk.
        public let range: ByteRange
        /// Bytes of each kind, by ``Kind/rawValue``.
        private let bytes: ArraySlice<UInt64>
        /// Faults that were found at places within it.
        public let faultCount: UInt64

        fileprivate init(_ range: ByteRange, _ bytes: ArraySlice<UInt64>, _ faultCount: UInt64) {
            (self.range, self.bytes, self.faultCount) = (range, bytes, faultCount)
        }

        /// How many bytes are of a kind.
        public subscript(_ kind: Kind) -> UInt64 { bytes[bytes.startIndex + kind.rawValue] }

        /// The one that stands for all: what is wrong, if anything is; else what most of the stored bytes are; else what
        /// most of the others are.
        public var kind: Kind {
            if faultCount > 0 { return .damaged }
            for alarm in [Kind.damaged, .exposed, .lost] where self[alarm] > 0 { return alarm }
            func most(_ kinds: [Kind]) -> Kind? {
                kinds.filter { self[$0] > 0 }.max { self[$0] < self[$1] }
            }
            return most([.shared, .encrypted, .plain, .compressed, .keyslots, .tables])
                ?? most([.zeros, .free, .unseen]) ?? .free
        }
    }

    /// What it is of.
    public let subject: Subject
    /// Of the file or disk, in bytes.
    public let size: UInt64
    /// In bytes, a power of two, so that clusters do not lie across cells of their size or more; the last cell may be shorter.
    public let cellSize: UInt64
    /// What all bytes are of which nothing was said.
    public internal(set) var rest = Kind.free
    /// Of all cells, one after the other.
    private var bytes: [UInt64]
    private var faults: [UInt64]

    /// Nothing is known yet.
    ///
    /// - Parameter cellCount: at most so many; more than 0.
    public init(of subject: Subject, size: UInt64, cellCount: Int) {
        self.subject = subject
        self.size = size
        var cellSize: UInt64 = 512
        // A disk has less than 2^64 bytes: beyond half of that, one cell more is two.
        while cellSize < 1 << 63, size.units(of: cellSize) > UInt64(cellCount) { cellSize *= 2 }
        self.cellSize = cellSize
        let count = Int(size.units(of: cellSize))
        bytes = [UInt64](repeating: 0, count: count * Kind.allCases.count)
        faults = [UInt64](repeating: 0, count: count)
    }

    /// Says what bytes are; those behind the end are left out. Each byte is told of once.
    public mutating func add(_ range: Range<UInt64>, _ kind: Kind) {
        var position = range.lowerBound
        let end = min(range.upperBound, size)
        while position < end {
            let index = position / cellSize
            let next = min(end, (index + 1) * cellSize)
            bytes[Int(index) * Kind.allCases.count + kind.rawValue] += next - position
            position = next
        }
    }

    /// Counts a fault at a byte.
    mutating func noteFault(at offset: UInt64) {
        guard offset < size else { return }
        faults[Int(offset / cellSize)] += 1
    }

    /// In order. There are never more than the caller has allowed.
    public var cells: [Cell] {
        faults.indices.compactMap { index in
            let start = UInt64(index) * cellSize
            guard let range = ByteRange(offset: start, length: min(cellSize, size - start)) else { return nil }
            let first = index * Kind.allCases.count
            var own = bytes[first..<(first + Kind.allCases.count)]
            let known = own.reduce(0, +)
            own[first + rest.rawValue] += range.length > known ? range.length - known : 0
            return Cell(range, own, faults[index])
        }
    }

    /// The faults at places within the file or disk, of which each cell tells its own.
    public var faultCount: UInt64 { faults.reduce(0, +) }
}

extension AuditMap {
    /// How often a device is asked what a run of its bytes is, for one map: a few seconds.
    private static let maximumExtents = 1 << 18

    /// Says what the bytes of a range of `device` are, by what it knows of them without reading; what it cannot tell, and what is too
    /// much to ask for, was not seen.
    ///
    /// - Parameters:
    ///   - place: where the range begins in the map, in bytes.
    ///   - data: what stored bytes are.
    ///   - compressed: what bytes are that are stored in compressed form.
    public mutating func add(
        _ range: ByteRange, of device: any BlockDevice, at place: UInt64, data: Kind, compressed: Kind = .compressed
    ) {
        var position = range.offset
        let end = min(range.end, device.size)
        var asked = 0
        while position < end {
            guard asked < Self.maximumExtents, let extent = try? device.extent(at: position, limit: end - position)
            else {
                return add(place + (position - range.offset)..<place + (end - range.offset), .unseen)
            }
            asked += 1
            let kind: Kind? =
                switch extent.kind {
                case .data: data
                case .compressed: compressed
                case .zero, .storedZeros: subject == .disk ? .zeros : nil
                case .unallocated: nil
                }
            let start = place + (position - range.offset)
            if let kind { add(start..<start + extent.length, kind) }
            position += extent.length
        }
    }
}
