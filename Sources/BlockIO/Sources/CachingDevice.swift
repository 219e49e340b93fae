// SPDX-License-Identifier: Apache-2.0

/// Keeps blocks of a device far away in memory, asks for each of them once, and for those that will be wanted next.
///
/// What is kept is what the source was when it was opened: once it says that it is another one, nothing is given any more.
/// Failures are not kept. Changes go through, and the blocks that they touch are forgotten when the source has answered,
/// be it after somebody has given up.
public final class CachingDevice: GrowableDevice {
    /// Bytes of a block, unless somebody says otherwise: a cluster of tables of a qcow2 image is one round trip.
    public static let usualBlockSize = 64 << 10
    /// What a block may have, in bytes.
    public static let blockSizes = (64 << 10)...(1 << 20)
    /// Bytes of all blocks, unless somebody says otherwise.
    public static let usualMemory = 64 << 20
    /// What a source is asked about at least, in bytes, when somebody wants to know what is there.
    static let extentSpan: UInt64 = 256 << 20
    /// How many answers to that are kept: 256 KiB.
    static let maximumExtents = 8192

    private struct State {
        var table: BlockTable
        var readAhead: ReadAhead
        var extents = ExtentTable(capacity: CachingDevice.maximumExtents)
    }

    /// What a look at the table has come to.
    private struct Plan {
        /// The blocks that were asked about, in order.
        var blocks: [Transfer] = []
        /// Those among them that have to be begun.
        var new: [Transfer] = []
        /// Those that will be wanted next.
        var ahead: [Transfer] = []
    }

    /// That of the device below.
    public var size: UInt64 { below.size }
    /// That of the device below; what is read from memory may be anywhere all the same.
    public var alignment: Int { below.alignment }
    /// That of the device below.
    public var depth: Int { below.depth }
    /// As the device below.
    public var isWritable: Bool { below.isWritable }
    private let below: RemoteDevice
    private var requests: RequestQueue { below.requests }
    private let blockSize: UInt64
    private let maximumAhead: Int
    private let state: Locked<State>

    /// - Parameters:
    ///   - blockSize: a power of two among ``blockSizes``; the next one is taken.
    ///   - memory: for all blocks together, in bytes; what is under way is a part of it. At least two blocks are kept.
    public init(_ below: RemoteDevice, blockSize: Int = usualBlockSize, memory: Int = usualMemory) {
        self.below = below
        var size = Self.blockSizes.lowerBound
        while size < min(blockSize, Self.blockSizes.upperBound) { size *= 2 }
        self.blockSize = UInt64(size)
        let capacity = max(2, memory / size)
        // A quarter of what may be under way is left to those who wait already.
        maximumAhead = min(below.depth - below.depth / 4, capacity / 2)
        state = Locked(
            State(
                table: BlockTable(capacity: capacity),
                readAhead: ReadAhead(blockSize: UInt64(size), maximumWindow: maximumAhead)))
    }

    /// Copies from blocks in memory; asks for those that are not there, side by side.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "cache")
        guard let range = ByteRange(offset: offset, length: UInt64(buffer.byteCount)) else { return }
        var parts = RangePieces(range, size: blockSize * UInt64(depth))
        while let part = parts.next() {
            try requests.checkIdentity()
            var left = try take(part, mode)[...]
            defer { for transfer in left { requests.leave(transfer) } }
            while let transfer = left.first {
                let memory = try bytes(of: transfer, mode)
                let block = transfer.operation.range
                let (start, end) = (max(part.offset, block.offset), min(part.end, block.end))
                buffer.withSlice(Int(start - offset)..<Int(end - offset)) { target in
                    memory.withBytes {
                        target.copy(from: $0.extracting(Int(start - block.offset)..<Int(end - block.offset)))
                    }
                }
                requests.leave(left.removeFirst())
            }
        }
    }

    /// Waits for a block.
    private func bytes(of transfer: Transfer, _ mode: ReadMode) throws(BlockError) -> RequestMemory {
        do throws(BlockError) { return try requests.wait(for: transfer, mode).memory } catch {
            guard error.code == .wouldBlock, mode.mayWait, !mode.isSpent else { throw error }
        }
        // Others who waited for it had it given up, or there was no room to read it ahead: it is not their block alone.
        let own = requests.make(transfer.operation)
        defer { requests.leave(own) }
        requests.begin(own)
        return try requests.wait(for: own, mode).memory
    }

    /// The blocks of a part, here or on their way; each is held, and given back by the caller.
    ///
    /// - Throws: ``BlockError/wouldBlock`` when one is not here and `mode` does not allow to wait; none is held then.
    private func take(_ part: ByteRange, _ mode: ReadMode) throws(BlockError) -> [Transfer] {
        let deadline = requests.deadline
        let free = requests.freeCount - depth / 4
        let plan = state.withLock { state -> Plan? in
            guard mode.mayWait || isAllHere(part, state, free: free) else { return nil }
            var plan = Plan()
            for index in indexes(part) {
                let range = range(index)
                if let block = state.table.use(index, range, for: part) {
                    block.join()
                    plan.blocks.append(block)
                } else {
                    let block = requests.make(.read(range), deadline: deadline)
                    state.table.insert(index, block, readUntil: min(part.end, range.end))
                    plan.blocks.append(block)
                    plan.new.append(block)
                }
            }
            let wanted = wantedNext(part, &state.readAhead, free: free - plan.new.count)
            plan.ahead = add(wanted, to: &state.table, deadline)
            return plan
        }
        guard let plan else { throw .wouldBlock }
        for block in plan.new { requests.begin(block) }
        for block in plan.ahead { requests.begin(block, onlyIfFree: true) }
        return plan.blocks
    }

    /// Can a part be read without asking the source for anything, blocks that will be wanted next among it? Who may not wait
    /// does not call a library either: then somebody else reads it, and asks for those.
    private func isAllHere(_ part: ByteRange, _ state: State, free: Int) -> Bool {
        var readAhead = state.readAhead
        return indexes(part).allSatisfy { state.table.isDone($0, range($0)) }
            && wantedNext(part, &readAhead, free: free).allSatisfy { state.table.contains($0, range($0)) }
    }

    private func wantedNext(_ part: ByteRange, _ readAhead: inout ReadAhead, free: Int) -> Range<UInt64> {
        readAhead.note(part, limit: max(0, min(free, maximumAhead)), end: indexes(whole).upperBound)
    }

    /// Those of some blocks that are not here nor on their way, which they are from now on; they have to be begun.
    private func add(_ blocks: Range<UInt64>, to table: inout BlockTable, _ deadline: Duration) -> [Transfer] {
        var new: [Transfer] = []
        for index in blocks where !table.contains(index, range(index)) {
            let block = requests.make(.read(range(index)), deadline: deadline, holders: 0)
            table.insert(index, block, readUntil: 0)
            new.append(block)
        }
        return new
    }

    /// From what the source has said, or what it says now; it is asked about more than is wanted, and once by all who want
    /// to know the same.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard below.tellsExtents else { return try below.extent(at: offset, limit: limit, mode) }
        while true {
            let range = try below.question(at: offset, limit: max(limit, Self.extentSpan))
            let limit = min(limit, size - offset)
            let (question, isNew): (Transfer, Bool)
            switch try ask(about: offset, range, mode) {
            case .known(let extent):
                if let found = [extent].telling(of: offset, limit: limit) { return found }
                throw RemoteDevice.answersNothing(of: offset)
            case .asked(let other): (question, isNew) = (other, false)
            case .new(let own):
                requests.begin(own)
                (question, isNew) = (own, true)
            }
            defer { requests.leave(question) }
            var answer: [Extent] = []
            do throws(BlockError) { answer = try requests.wait(for: question, mode).extents } catch {
                state.withLock { $0.extents.end(question, [], size: size) }
                // Others may have given it up.
                guard !isNew, error.code == .wouldBlock, !mode.isSpent else { throw error }
                continue
            }
            state.withLock { $0.extents.end(question, answer, size: size) }
            if let found = answer.telling(of: offset, limit: limit) { return found }
            // The answer to another's question may end before.
            guard !isNew else { throw RemoteDevice.answersNothing(of: offset) }
        }
    }

    private enum Knowledge {
        case known(Extent)
        case asked(Transfer)
        case new(Transfer)
    }

    private func ask(about offset: UInt64, _ range: ByteRange, _ mode: ReadMode) throws(BlockError) -> Knowledge {
        let deadline = requests.deadline
        let found = state.withLock { state -> Knowledge? in
            if let extent = state.extents.find(offset) { return .known(extent) }
            guard mode.mayWait else { return nil }
            if let question = state.extents.question(about: offset) {
                question.join()
                return .asked(question)
            }
            let question = requests.make(.extents(range), deadline: deadline)
            state.extents.add(question)
            return .new(question)
        }
        guard let found else { throw .wouldBlock }
        return found
    }

    /// Begins to read as many blocks as may be under way.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {
        guard range.length > 0, range.fits(size), (try? requests.checkIdentity()) != nil else { return }
        let deadline = requests.deadline
        let free = min(requests.freeCount - depth / 4, maximumAhead)
        guard free > 0 else { return }
        let blocks = indexes(range)
        var begun = 0
        for index in blocks {
            guard begun < free, budget.look() else { return }
            let new = state.withLock { add(index..<index + 1, to: &$0.table, deadline) }
            for block in new { requests.begin(block, onlyIfFree: true) }
            begun += new.count
        }
    }

    /// To the device below; nothing of it is kept.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        guard let range = ByteRange(offset: offset, length: UInt64(bytes.byteCount)) else { return }
        try below.write(bytes.bytes, at: offset, options) { [self] in forget(range) }
    }

    /// In the device below.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        try below.zero(range, options) { [self] in forget(range) }
    }

    /// In the device below.
    public func discard(_ range: ByteRange) throws(BlockError) {
        try below.discard(range) { [self] in forget(range) }
    }

    /// Of the device below.
    public func flush() throws(BlockError) { try below.flush() }

    /// Makes the device below longer.
    public func grow(to size: UInt64) throws(BlockError) { try below.grow(to: size) }

    /// Blocks that came before a change ended may hold what was there before it.
    private func forget(_ range: ByteRange) {
        guard range.length > 0 else { return }
        state.withLock { state in
            state.table.remove(indexes(range))
            state.extents.forget(range)
        }
    }

    private var whole: ByteRange { ByteRange(offset: 0, length: size) ?? .empty }

    /// The blocks that a range touches.
    private func indexes(_ range: ByteRange) -> Range<UInt64> {
        range.offset / blockSize..<(range.length == 0 ? range.offset / blockSize : (range.end - 1) / blockSize + 1)
    }

    /// The bytes of a block that the source has.
    private func range(_ index: UInt64) -> ByteRange {
        let start = index * blockSize
        return ByteRange(offset: start, length: min(blockSize, size - start)) ?? .empty
    }
}
