// SPDX-License-Identifier: Apache-2.0

/// The blocks of a source that are in memory, or on their way there.
///
/// Which one goes when there is no more room is decided by a hand that goes round them ("clock" with counts): a block that was
/// asked for again, at another place than where the last read of it ended, is passed by up to three times. So a copy,
/// which reads each block once from beginning to end, does not drive out the tables of an image. Every
/// operation takes constant time on average.
struct BlockTable {
    private struct Entry {
        let index: UInt64
        let transfer: Transfer
        /// How often the hand passes it by.
        var uses = 0
        /// The byte after the last read of it; 0 when nobody has read of it.
        var end: UInt64
    }

    private static let maximumUses = 3

    private let capacity: Int
    private var places: [UInt64: Int] = [:]
    private var ring: [Entry] = []
    private var hand = 0

    /// - Parameter capacity: how many blocks; at least 1.
    init(capacity: Int) { self.capacity = max(1, capacity) }

    /// Is the block here, or on its way? Does not count as a use.
    func contains(_ index: UInt64, _ range: ByteRange) -> Bool {
        places[index].map { Self.isUseful(ring[$0].transfer, range) } ?? false
    }

    /// Is the block here? Does not count as a use.
    func isDone(_ index: UInt64, _ range: ByteRange) -> Bool {
        places[index].map { ring[$0].transfer.isDone && ring[$0].transfer.operation.range == range } ?? false
    }

    /// The block `index`, whose bytes are `range`, if it is here or on its way, and has not failed.
    ///
    /// - Parameter part: the bytes of the source that are read now; some may lie in other blocks.
    mutating func use(_ index: UInt64, _ range: ByteRange, for part: ByteRange) -> Transfer? {
        guard let place = places[index], Self.isUseful(ring[place].transfer, range) else { return nil }
        let start = max(part.offset, range.offset)
        if ring[place].end != 0, ring[place].end != start {
            ring[place].uses = min(Self.maximumUses, ring[place].uses + 1)
        }
        ring[place].end = min(part.end, range.end)
        return ring[place].transfer
    }

    /// A block that has become longer with the source is another one.
    private static func isUseful(_ transfer: Transfer, _ range: ByteRange) -> Bool {
        !transfer.hasFailed && transfer.operation.range == range
    }

    /// Puts a block in place of one that goes.
    ///
    /// - Parameter end: the byte after the read that wants it; 0 when nobody does yet.
    mutating func insert(_ index: UInt64, _ transfer: Transfer, readUntil end: UInt64) {
        let entry = Entry(index: index, transfer: transfer, end: end)
        if let place = places[index] {
            ring[place] = entry
        } else if ring.count < capacity {
            places[index] = ring.count
            ring.append(entry)
        } else {
            let place = placeToFree()
            places[ring[place].index] = nil
            places[index] = place
            ring[place] = entry
        }
    }

    private mutating func placeToFree() -> Int {
        // When all are on their way, one of them goes: those who wait for it hold it.
        for _ in 0..<ring.count * (Self.maximumUses + 2) {
            let place = hand
            hand = (hand + 1) % ring.count
            guard ring[place].transfer.isSettled else { continue }
            if ring[place].uses == 0 || ring[place].transfer.hasFailed { return place }
            ring[place].uses -= 1
        }
        return hand
    }

    /// Forgets blocks. What is on its way to those who wait for it gets there.
    mutating func remove(_ indexes: Range<UInt64>) {
        if indexes.count <= ring.count {
            for index in indexes { remove(index) }
        } else {
            for index in places.keys where indexes.contains(index) { remove(index) }
        }
    }

    private mutating func remove(_ index: UInt64) {
        guard let place = places.removeValue(forKey: index) else { return }
        let last = ring.removeLast()
        if place < ring.count {
            ring[place] = last
            places[last.index] = place
        }
        if hand >= ring.count { hand = 0 }
    }
}
