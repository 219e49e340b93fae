// SPDX-License-Identifier: Apache-2.0

/// What a source has said of its bytes, and what it is being asked.
///
/// When there is no more room, all is forgotten but the latest answer: whoever goes through a disk gets on with that one.
struct ExtentTable {
    private let capacity: Int
    /// In order; none overlaps another.
    private var known: [Extent] = []
    /// Questions whose answers nothing has changed meanwhile.
    private var asked: [Transfer] = []

    /// - Parameter capacity: how many extents; at least 1.
    init(capacity: Int) { self.capacity = max(1, capacity) }

    /// The extent with the byte `offset`.
    func find(_ offset: UInt64) -> Extent? {
        let place = place(of: offset)
        guard place < known.count, known[place].offset <= offset else { return nil }
        return known[place]
    }

    /// The question whose answer may tell of the byte `offset`.
    func question(about offset: UInt64) -> Transfer? {
        asked.first { question in
            let range = question.operation.range
            return !question.hasFailed && range.offset <= offset && offset < range.end
        }
    }

    /// A question has been asked.
    mutating func add(_ question: Transfer) {
        // Those that nobody waited for any more.
        asked.removeAll(where: \.hasFailed)
        asked.append(question)
    }

    /// A question has its answer, or has failed; the first who says so counts.
    ///
    /// - Parameters:
    ///   - answer: what follows one another from the start of the question on is kept.
    ///   - size: of the device, in bytes.
    mutating func end(_ question: Transfer, _ answer: [Extent], size: UInt64) {
        guard let index = asked.firstIndex(where: { $0 === question }) else { return }
        asked.remove(at: index)
        var new: [Extent] = []
        var end = question.operation.range.offset
        for extent in answer.prefix(capacity) {
            guard extent.offset == end, end < size, extent.length > 0 else { break }
            let length = min(extent.length, size - end)
            end += length
            if let last = new.last, last.kind == extent.kind, last.depth == extent.depth {
                new[new.count - 1] = Extent(
                    offset: last.offset, length: last.length + length, kind: last.kind, depth: last.depth)
            } else {
                new.append(Extent(offset: extent.offset, length: length, kind: extent.kind, depth: extent.depth))
            }
        }
        guard let first = new.first else { return }
        forget(from: first.offset, to: end)
        if known.count + new.count > capacity { known = [] }
        known.insert(contentsOf: new, at: place(of: first.offset))
    }

    /// Some bytes have changed: neither what was said of them counts any more, nor what will be, of those who asked before.
    mutating func forget(_ range: ByteRange) {
        asked.removeAll { $0.operation.range.offset < range.end && range.offset < $0.operation.range.end }
        forget(from: range.offset, to: range.end)
    }

    private mutating func forget(from start: UInt64, to end: UInt64) {
        let first = place(of: start)
        var last = first
        while last < known.count, known[last].offset < end { last += 1 }
        known.removeSubrange(first..<last)
    }

    /// The index of the first extent that ends behind the byte `offset`.
    private func place(of offset: UInt64) -> Int {
        var (low, high) = (0, known.count)
        while low < high {
            let middle = (low + high) / 2
            if known[middle].offset + known[middle].length <= offset { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

extension [Extent] {
    /// What these say of the byte `offset`, and of those behind it up to `limit` bytes; nil: nothing.
    func telling(of offset: UInt64, limit: UInt64) -> Extent? {
        first { $0.offset <= offset && offset - $0.offset < $0.length }.map { found in
            Extent(
                offset: offset, length: Swift.min(limit, found.length - (offset - found.offset)), kind: found.kind,
                depth: found.depth)
        }
    }
}
