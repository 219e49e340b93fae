// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A source far away as a device: whoever calls it waits.
///
/// Any number of threads may wait at the same time; the source has as many requests under way as it likes, and the others
/// wait for their turn. Long requests are cut into pieces, several of which are under way at once. Nothing is tried again.
public final class RemoteDevice: GrowableDevice {
    /// How long a request may take, unless somebody says otherwise.
    public static let usualTimeLimit = Duration.seconds(30)
    /// Bytes of one request to read or write.
    static let pieceSize: UInt64 = 1 << 20
    /// Bytes of one request that carries none.
    static let emptyPieceSize: UInt64 = 1 << 30
    /// Pieces of one call that are under way at once.
    static let pieceCount = 8

    /// The length in bytes; what the source was when it was opened, or as it has grown by this device.
    public var size: UInt64 { knownSize.load(ordering: .relaxed) }
    /// That of the source.
    public let alignment: Int
    /// That of the source.
    public var depth: Int { requests.depth }
    /// Was the source opened for writing?
    public let isWritable: Bool
    /// Tells whether two names are of one source.
    public var identity: SourceIdentity { requests.identity }
    /// Those to the source.
    let requests: RequestQueue
    /// Otherwise all is data.
    let tellsExtents: Bool
    private let knownSize: Atomic<UInt64>
    /// Every flush passes it.
    private let flushGate: FlushGate

    /// - Parameters:
    ///   - allowsChanges: false: it is not written to, though it could be.
    ///   - timeLimit: how long a request may take, the wait for its turn included; then it fails with
    ///     ``BlockError/Code/timedOut``.
    ///   - clock: nil: that of this machine.
    /// - Throws: ``FormatError`` when what the source says of itself cannot be.
    public init(
        _ source: any AsyncSource, allowsChanges: Bool = true, timeLimit: Duration = usualTimeLimit,
        clock: (any SourceClock)? = nil
    ) throws(FormatError) {
        guard source.size <= UInt64(Int64.max) else {
            throw .unreadable("it says that it has \(source.size) bytes, which is more than a disk can have")
        }
        guard source.alignment.nonzeroBitCount == 1, 1...RequestMemory.alignment ~= source.alignment else {
            throw .unreadable("it is read in units of \(source.alignment) bytes, which is not done")
        }
        let requests = RequestQueue(source, timeLimit: timeLimit, clock: clock ?? SystemSourceClock())
        self.requests = requests
        alignment = source.alignment
        isWritable = source.isWritable && allowsChanges
        tellsExtents = source.tellsExtents
        knownSize = Atomic(source.size)
        flushGate = FlushGate {
            do throws(BlockError) {
                try Self.carryOut(requests.make(.flush), requests)
                return nil
            } catch {
                return error
            }
        }
    }

    /// Asks the source, and waits; nothing is in memory.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "source")
        try requests.checkIdentity()
        guard mode.mayWait else { throw .wouldBlock }
        guard let range = ByteRange(offset: offset, length: UInt64(buffer.byteCount)) else { return }
        var pieces = RangePieces(range, size: Self.pieceSize)
        var underWay: [Transfer] = []
        defer { for transfer in underWay { requests.leave(transfer) } }
        while true {
            while underWay.count < Self.pieceCount, let piece = pieces.next() {
                let transfer = requests.make(.read(piece))
                requests.begin(transfer)
                underWay.append(transfer)
            }
            guard let first = underWay.first else { return }
            let memory = try requests.wait(for: first, mode).memory
            let start = Int(first.operation.range.offset - offset)
            buffer.withSlice(start..<start + memory.byteCount) { part in memory.withBytes { part.copy(from: $0) } }
            requests.leave(underWay.removeFirst())
        }
    }

    /// What the source says, or that all is data.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        let whole = try question(at: offset, limit: limit)
        let length = min(limit, size - offset)
        guard tellsExtents else { return Extent(offset: offset, length: length, kind: .data) }
        guard mode.mayWait else { throw .wouldBlock }
        let transfer = requests.make(.extents(whole))
        requests.begin(transfer)
        defer { requests.leave(transfer) }
        let extents = try requests.wait(for: transfer, mode).extents
        guard let found = extents.telling(of: offset, limit: length) else { throw Self.answersNothing(of: offset) }
        return found
    }

    /// The bytes to ask for to hear of that at `offset`: a source answers about whole units.
    func question(at offset: UInt64, limit: UInt64) throws(BlockError) -> ByteRange {
        guard offset < size, limit > 0 else { throw .outOfRange("source: there is no byte \(offset)") }
        try requests.checkIdentity()
        let unit = UInt64(alignment)
        let start = offset - offset % unit
        let end = min(size, (offset + min(limit, size - offset)).roundedUp(to: unit))
        return ByteRange(offset: start, length: end - start) ?? .empty
    }

    /// An answer that helps nobody.
    static func answersNothing(of offset: UInt64) -> BlockError {
        .inputOutput("source: asking what is at \(offset): the answer is about other bytes")
    }

    /// Does nothing: there is no memory to bring anything into. ``CachingDevice`` has some.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {}

    /// Has the source write a copy of `bytes`, which stays as it is.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        try write(bytes.bytes, at: offset, options, whenAnswered: nil)
    }

    /// - Parameter whenAnswered: called for each piece of it when the source has answered, be it late.
    func write(
        _ bytes: RawSpan, at offset: UInt64, _ options: WriteOptions, whenAnswered: (@Sendable () -> Void)?
    ) throws(BlockError) {
        try checkBounds(bytes.byteCount, at: offset, layer: "source")
        guard let range = ByteRange(offset: offset, length: UInt64(bytes.byteCount)) else { return }
        try change(RangePieces(range, size: Self.pieceSize)) { piece in
            let start = Int(piece.offset - offset)
            let payload = RequestMemory(copying: bytes.extracting(start..<start + Int(piece.length)))
            return requests.make(.write(piece, options), payload: payload, whenAnswered: whenAnswered)
        }
    }

    /// By the source.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        try zero(range, options, whenAnswered: nil)
    }

    /// As ``write(_:at:_:whenAnswered:)``.
    func zero(
        _ range: ByteRange, _ options: ZeroOptions, whenAnswered: (@Sendable () -> Void)?
    ) throws(BlockError) {
        try checkBounds(range, layer: "source")
        try change(RangePieces(range, size: Self.emptyPieceSize)) { piece in
            requests.make(.zero(piece, options), whenAnswered: whenAnswered)
        }
    }

    /// By the source.
    public func discard(_ range: ByteRange) throws(BlockError) { try discard(range, whenAnswered: nil) }

    /// As ``write(_:at:_:whenAnswered:)``.
    func discard(_ range: ByteRange, whenAnswered: (@Sendable () -> Void)?) throws(BlockError) {
        try checkBounds(range, layer: "source")
        try change(RangePieces(range, size: Self.emptyPieceSize)) { piece in
            requests.make(.discard(piece), whenAnswered: whenAnswered)
        }
    }

    /// One at a time; once one has failed, or a change that had to be durable, all fail: what is lost nobody knows.
    public func flush() throws(BlockError) {
        guard isWritable else { return }
        try flushGate.pass()
    }

    /// Makes the source longer, if it can be.
    public func grow(to size: UInt64) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        guard size > self.size else { return }
        try Self.carryOut(requests.make(.grow(to: size)), requests)
        _ = knownSize.max(size, ordering: .relaxed)
    }

    private static func carryOut(_ transfer: Transfer, _ requests: RequestQueue) throws(BlockError) {
        try requests.checkIdentity()
        requests.begin(transfer)
        defer { requests.leave(transfer) }
        _ = try requests.wait(for: transfer, .mayBlock)
    }

    /// Waits for all pieces of a change, also when one fails: what is under way would otherwise come to pass when the
    /// caller has been told already that it is over. Only what is not answered in time does.
    private func change(_ pieces: RangePieces, _ make: (ByteRange) -> Transfer) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try requests.checkIdentity()
        var pieces = pieces
        var failure: BlockError?
        var underWay: [Transfer] = []
        while true {
            while failure == nil, underWay.count < Self.pieceCount, let piece = pieces.next() {
                let transfer = make(piece)
                requests.begin(transfer)
                underWay.append(transfer)
            }
            guard !underWay.isEmpty else { break }
            let transfer = underWay.removeFirst()
            do throws(BlockError) { _ = try requests.wait(for: transfer, .mayBlock) } catch {
                if transfer.operation.isDurable { flushGate.fail(error) }
                failure = failure ?? error
            }
            requests.leave(transfer)
        }
        if let failure { throw failure }
    }
}
