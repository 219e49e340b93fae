// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Glibc
import Synchronization

/// Replies on their way to one client: filled from the front, sent from the front.
///
/// One owner at a time: a connection, or the worker that fills it for the connection.
@safe
final class PayloadBuffer: @unchecked Sendable {
    /// In bytes.
    let capacity: Int
    /// Of the data of a request that it is for, in bytes; there is more room, for heads.
    fileprivate(set) var payloadCapacity = 0
    /// How many bytes have been filled.
    private(set) var count = 0
    /// How many of those have been sent.
    private(set) var sent = 0
    /// How many of the filled bytes are data that clients have asked for.
    private(set) var dataCount = 0
    private let memory: UnsafeMutableRawPointer

    /// Nil when the system has no memory.
    /// - Parameter capacity: in bytes.
    init?(capacity: Int) {
        let memory = unsafe mmap(nil, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory = unsafe memory, unsafe memory != MAP_FAILED else { return nil }
        unsafe self.memory = unsafe memory
        self.capacity = capacity
    }

    deinit { unsafe munmap(memory, capacity) }

    /// Bytes that still fit.
    var room: Int { capacity - count }
    var isEmpty: Bool { count == 0 }

    /// Fills the next `length` bytes, which must fit; when `fill` throws, nothing has been added.
    /// - Parameter dataCount: how many of them are data.
    func append<Failure: Error>(
        _ length: Int, dataCount: Int = 0, _ fill: (inout MutableRawSpan) throws(Failure) -> Void
    ) throws(Failure) {
        precondition(length >= 0 && length <= room)
        var span = unsafe MutableRawSpan(_unsafeStart: memory + count, byteCount: length)
        try fill(&span)
        count += length
        self.dataCount += dataCount
    }

    /// Fills as many of the next `length` bytes, which must fit, as `fill` says; when it throws, nothing has been added.
    /// - Parameter dataCount: how many bytes of data they stand for.
    func append<Failure: Error>(
        upTo length: Int, dataCount: Int, _ fill: (inout MutableRawSpan) throws(Failure) -> Int
    ) throws(Failure) {
        precondition(length >= 0 && length <= room)
        var span = unsafe MutableRawSpan(_unsafeStart: memory + count, byteCount: length)
        let used = try fill(&span)
        precondition(used >= 0 && used <= length)
        count += used
        self.dataCount += dataCount
    }

    /// Fills a range of what is still free, counted from there, in advance: it becomes part of the contents by an `append`
    /// that leaves it as it is.
    func prepare<Failure: Error>(
        _ range: Range<Int>, _ fill: (inout MutableRawSpan) throws(Failure) -> Void
    ) throws(Failure) {
        precondition(range.lowerBound >= 0 && range.upperBound <= room)
        var span = unsafe MutableRawSpan(_unsafeStart: memory + count + range.lowerBound, byteCount: range.count)
        try fill(&span)
    }

    /// Gives `body` what has been filled, to work in it.
    func withFilled<Result>(_ body: (inout MutableRawSpan) -> Result) -> Result {
        var span = unsafe MutableRawSpan(_unsafeStart: memory, byteCount: count)
        return body(&span)
    }

    /// Adds bytes, which must fit.
    func append(_ bytes: ArraySlice<UInt8>) {
        append(bytes.count) { target in target.copy(from: unsafe bytes.span.bytes) }
    }

    /// Sends as much as the socket takes.
    /// - Returns: `bytes` when nothing is left to be sent.
    func send(to stream: any ByteStream) -> Socket.Progress {
        while sent < count {
            let rest = unsafe RawSpan(_unsafeStart: UnsafeRawPointer(memory + sent), byteCount: count - sent)
            let progress = stream.send(rest)
            guard case .bytes(let length) = progress else { return progress }
            sent += length
        }
        return .bytes(count)
    }

    /// Forgets the contents.
    func reset() {
        count = 0
        sent = 0
        dataCount = 0
    }
}

/// Hands out payload buffers within a limit for the whole process, whatever the number of clients.
final class PayloadBufferPool: Sendable {
    let sizes: PayloadSizes
    /// How many of the smallest buffers are kept beyond the limit.
    private static let keptCount = 16

    private struct State {
        /// Buffers that nobody uses, by capacity.
        var free: [Int: [PayloadBuffer]] = [:]
        /// Of all buffers that exist.
        var mappedBytes = 0
        /// Of those that somebody uses.
        var usedBytes = 0
    }

    private let maximumBytes: Int
    private let allocate: @Sendable (_ capacity: Int) -> PayloadBuffer?
    private let state = Locked(State())
    /// How often a buffer was refused for want of memory.
    private let refusals = Atomic(0)

    /// - Parameters:
    ///   - maximumBytes: of all buffers together, except that each client can always have one of the smallest.
    ///   - sizes: of the buffers.
    ///   - allocate: makes a buffer of so many bytes; nil when there is no memory for it.
    init(
        maximumBytes: Int, sizes: PayloadSizes = PayloadSizes(),
        allocate: @escaping @Sendable (_ capacity: Int) -> PayloadBuffer? = PayloadBuffer.init
    ) {
        self.maximumBytes = maximumBytes
        self.sizes = sizes
        self.allocate = allocate
    }

    /// What there is, what is used and what is mapped, in bytes. Any thread may ask.
    var report: (maximum: Int, used: Int, mapped: Int) {
        state.withLock { (maximumBytes, $0.usedBytes, $0.mappedBytes) }
    }

    fileprivate func usedBytes(of share: PayloadShare) -> Int { state.withLock { _ in share.heldBytes } }

    /// Grows whenever somebody does not get the memory that he wants.
    var refusalCount: Int { refusals.load(ordering: .relaxed) }

    private func capacity(for payload: Int) -> Int {
        var size = sizes.smallest
        while size < payload { size *= 2 }
        return size + sizes.headRoom
    }

    /// A buffer for a payload of this many bytes and some heads; nil when the limit is reached, or the client's share is.
    ///
    /// A client that has some memory already gets more as long as that leaves half as much to others: the less there is, the
    /// less more one of them gets.
    fileprivate func take(payload: Int, for share: PayloadShare) -> PayloadBuffer? {
        let capacity = capacity(for: payload)
        let buffer: PayloadBuffer? = state.withLock { state in
            let unused = maximumBytes - state.usedBytes
            guard capacity <= unused, share.heldBytes == 0 || share.heldBytes + capacity <= 2 * unused,
                let buffer = state.free[capacity]?.popLast() ?? map(capacity, &state)
            else { return nil }
            state.usedBytes += capacity
            share.heldBytes += capacity
            return buffer
        }
        if buffer == nil { refusals.add(1, ordering: .relaxed) }
        return buffer
    }

    private func map(_ capacity: Int, _ state: inout State) -> PayloadBuffer? {
        if state.mappedBytes + capacity > maximumBytes { dropFree(&state, until: maximumBytes - capacity) }
        guard let buffer = allocate(capacity) else { return nil }
        buffer.payloadCapacity = capacity - sizes.headRoom
        state.mappedBytes += capacity
        return buffer
    }

    /// A buffer of the smallest size for a client that has none, limit or not.
    fileprivate func takeSmallest(for share: PayloadShare) -> PayloadBuffer? {
        let capacity = sizes.smallestCapacity
        return state.withLock { state in
            guard share.heldBytes == 0, let buffer = state.free[capacity]?.popLast() ?? map(capacity, &state) else {
                return nil
            }
            state.usedBytes += capacity
            share.heldBytes += capacity
            return buffer
        }
    }

    /// Takes a buffer back.
    fileprivate func put(_ buffer: PayloadBuffer, of share: PayloadShare) {
        buffer.reset()
        state.withLock { state in
            state.usedBytes -= buffer.capacity
            share.heldBytes -= buffer.capacity
            // Of the smallest ones some are kept all the same: to map one costs more than to fill it.
            let isKept =
                buffer.capacity == sizes.smallestCapacity
                && state.free[buffer.capacity, default: []].count < Self.keptCount
            if state.mappedBytes > maximumBytes, !isKept {
                state.mappedBytes -= buffer.capacity
            } else {
                state.free[buffer.capacity, default: []].append(buffer)
            }
        }
    }

    private func dropFree(_ state: inout State, until target: Int) {
        for capacity in state.free.keys.sorted(by: >) {
            while state.mappedBytes > target, state.free[capacity]?.popLast() != nil {
                state.mappedBytes -= capacity
            }
        }
    }
}

/// What one client has of the memory for replies. Any thread may use it.
final class PayloadShare: @unchecked Sendable {
    private let pool: PayloadBufferPool
    /// Behind the lock of the pool, in bytes.
    fileprivate var heldBytes = 0

    init(of pool: PayloadBufferPool) { self.pool = pool }

    var sizes: PayloadSizes { pool.sizes }

    /// A buffer for a payload of this many bytes and some heads; nil when the limit of all clients is reached, or the share of
    /// this one.
    func take(payload: Int) -> PayloadBuffer? { pool.take(payload: payload, for: self) }

    /// A buffer of the smallest size. A client that has none gets it, limit or not.
    func takeSmallest() -> PayloadBuffer? {
        take(payload: sizes.smallest) ?? pool.takeSmallest(for: self)
    }

    /// What the client has, in bytes.
    var usedBytes: Int { pool.usedBytes(of: self) }

    /// Gives a buffer back.
    func put(_ buffer: PayloadBuffer) { pool.put(buffer, of: self) }
}

extension MutableRawSpan {
    /// Copies `count` bytes within the span; the places may overlap.
    mutating func move(_ source: Int, to target: Int, count: Int) {
        precondition(source >= 0 && target >= 0 && count >= 0)
        precondition(count <= byteCount - source && count <= byteCount - target)
        guard source != target else { return }
        unsafe withUnsafeMutableBytes { bytes in
            guard let start = bytes.baseAddress else { return }
            unsafe _ = memmove(start + target, start + source, count)
        }
    }

    /// Are all bytes of a range zeros?
    func isZero(_ range: Range<Int>) -> Bool {
        bytes.extracting(range).isZero
    }
}
