// SPDX-License-Identifier: Apache-2.0

package import BlockIO

/// How far a copy is, and what has become of each part of the disk; any thread may look.
public final class CopyProgress: Sendable {
    /// What has become of bytes.
    public enum State: Int, CaseIterable, Sendable {
        /// Copied, or compared.
        case data
        /// Known to be zeros, or read as such.
        case zeros
        /// Cannot be read.
        case unreadable
        /// Written by clients, whatever else has become of it.
        case written
    }

    /// Bytes in each state; the rest is still to be done.
    public struct Amounts: Equatable, Sendable {
        /// Of all states, in bytes.
        private var bytes = [UInt64](repeating: 0, count: State.allCases.count)

        /// Nothing is done.
        public init() {}

        /// Bytes in a state.
        public subscript(_ state: State) -> UInt64 { bytes[state.rawValue] }
        /// Bytes with which all is done: in any state, but that they are written says nothing of it.
        public var done: UInt64 { self[.data] + self[.zeros] + self[.unreadable] }

        mutating func add(_ count: UInt64, _ state: State) { bytes[state.rawValue] += count }
    }

    /// Of the disk, in bytes.
    public let size: UInt64
    /// Parts of the disk that ``map`` tells apart, all but the last of them of this length.
    private let cellSize: UInt64
    private let cells: Locked<[Amounts]>

    /// - Parameters:
    ///   - size: of the disk, in bytes.
    ///   - cellCount: how many parts are told apart at most; more than 0.
    public init(size: UInt64, cellCount: Int) {
        self.size = size
        cellSize = max(1, size.units(of: UInt64(cellCount)))
        cells = Locked([Amounts](repeating: Amounts(), count: Int(size.units(of: cellSize))))
    }

    /// The parts of the disk, in order: how long each is, in bytes, and what has become of it.
    public var map: [(length: UInt64, amounts: Amounts)] {
        cells.withLock { cells in
            cells.enumerated().map { (min(cellSize, size - UInt64($0) * cellSize), $1) }
        }
    }

    /// Of the whole disk.
    public var total: Amounts {
        cells.withLock { cells in
            var total = Amounts()
            for cell in cells { for state in State.allCases { total.add(cell[state], state) } }
            return total
        }
    }

    /// Where the part of the map ends that has this byte.
    package func endOfCell(at offset: UInt64) -> UInt64 { min(size, (offset / cellSize + 1) * cellSize) }

    /// Each byte is told of once.
    package func add(_ range: ByteRange, _ state: State) {
        cells.withLock { cells in
            var position = range.offset
            while position < range.end {
                let index = Int(position / cellSize)
                let end = min(range.end, UInt64(index + 1) * cellSize)
                cells[index].add(end - position, state)
                position = end
            }
        }
    }
}
