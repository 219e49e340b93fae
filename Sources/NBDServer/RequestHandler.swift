// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Carries out requests that have passed ``RequestRules`` and puts the replies into buffers. Any thread may use it.
struct RequestHandler: Sendable {
    let session: Session
    let request: NBDRequest

    private var device: any BlockDevice { session.export.device }
    var reply: Reply { Reply(mode: session.mode, request: request) }

    /// How much of a prefetch is carried out: more would push out of memory what came first.
    private static let longestPrefetch: UInt64 = 256 << 20
    /// How many zeros a worker writes before others have their turn, in bytes.
    private static let zeroSlice: UInt64 = 32 << 20
    /// How often a worker looks up where bytes are for one request whose answer can be shorter, or for a hint.
    private static let looks = 16384
    /// How long that may take: so long a client waits, and others for the worker.
    private static let patience = Duration.milliseconds(100)

    /// Puts a part of the data into `buffer`, and the head of the reply where one belongs.
    ///
    /// - Parameter part: in bytes from the start of the data.
    /// - Returns: why it cannot be done; nothing has been added then.
    func read(_ part: Range<Int>, into buffer: PayloadBuffer, _ mode: ReadMode) -> BlockError? {
        let (reply, head) = (reply, reply.headLength(of: part))
        do throws(BlockError) {
            try buffer.append(upTo: head + part.count, dataCount: part.count) { (bytes) throws(BlockError) -> Int in
                try bytes.withSlice(head..<bytes.byteCount) { (data) throws(BlockError) in
                    try device.read(into: &data, at: request.offset + UInt64(part.lowerBound), mode)
                    show(data.bytes, at: part.lowerBound)
                }
                return reply.frame(&bytes, part)
            }
        } catch {
            tell(part, error)
            return error
        }
        return nil
    }

    /// Shows data to who wants to see it.
    private func show(_ data: RawSpan, at place: Int) {
        for observer in session.export.observers { observer.read(data, at: request.offset + UInt64(place)) }
    }

    /// Tells who wants to know that a part of the data cannot be read.
    private func tell(_ part: Range<Int>, _ error: BlockError) {
        guard error.code != .wouldBlock else { return }
        for observer in session.export.observers {
            observer.failed(request.offset + UInt64(part.lowerBound), part.count)
        }
    }

    /// Tells who wants to know that a client has changed bytes.
    private func tellWritten(_ offset: UInt64, _ count: UInt64) {
        for observer in session.export.observers { observer.wrote(offset..<offset + count) }
    }

    /// What one step of a long read reads, in bytes: then it is looked whether others wait, and for how long.
    private static let readStep = 1 << 20

    /// Puts all of the data and the head of the reply into `buffer`, in steps. May block.
    ///
    /// - Parameters:
    ///   - done: as the last call said, with the same buffer; 0 at first.
    ///   - isAbandoned: true when nobody waits for the reply any more; the read ends then, in an error.
    func readAll(
        into buffer: PayloadBuffer, from done: UInt64, isAbandoned: @escaping @Sendable () -> Bool
    ) -> Progress {
        let length = Int(request.length)
        let mode = ReadMode.mayBlock(Budget(looks: .max, isAbandoned: isAbandoned))
        guard length > Self.readStep else { return .finished(read(0..<length, into: buffer, mode)) }
        let deadline = ContinuousClock.now + Self.patience
        let head = reply.length(ofData: 0)
        var done = Int(done)
        do throws(BlockError) {
            while done < length {
                guard !isAbandoned() else { throw .wouldBlock }
                let step = min(Self.readStep, length - done)
                try buffer.prepare((head + done)..<(head + done + step)) { (data) throws(BlockError) in
                    try device.read(into: &data, at: request.offset + UInt64(done), mode)
                    show(data.bytes, at: done)
                }
                done += step
                if done < length, ContinuousClock.now > deadline { return .unfinished(done: UInt64(done)) }
            }
        } catch {
            tell(done..<min(done + Self.readStep, length), error)
            return .finished(error)
        }
        // All of it is there.
        buffer.append(upTo: head + length, dataCount: length) { reply.frame(&$0, 0..<length) }
        return .finished(nil)
    }

    /// Puts zeros into `buffer` in the place of data that cannot be read, where the head of the reply has promised some.
    func pad(_ part: Range<Int>, into buffer: PayloadBuffer) {
        let head = reply.headLength(of: part)
        buffer.append(upTo: head + part.count, dataCount: part.count) { bytes in
            bytes.withSlice(head..<bytes.byteCount) { $0.clear() }
            return reply.frame(&bytes, part)
        }
    }

    /// What has become of an operation.
    enum Progress {
        /// The reply is in the buffer; why it failed, for the log. (That of a read that has failed is not.)
        case finished(BlockError?)
        /// It is to be called again, with this many bytes done: others have their turn first.
        case unfinished(done: UInt64)
    }

    /// Carries out an operation that needs no payload and whose reply has no data, and puts the reply into `buffer`. May
    /// block.
    ///
    /// - Parameters:
    ///   - filter: of a block status that is asked for in some contexts only.
    ///   - done: as the last call said; nil at first.
    ///   - isAbandoned: true when nobody waits for the reply any more; what takes long asks now and then.
    func perform(
        _ operation: RequestRules.Operation, filter: BlockStatusFilter? = nil, from done: UInt64? = nil,
        into buffer: PayloadBuffer, isAbandoned: @escaping @Sendable () -> Bool = { false }
    ) -> Progress {
        do throws(BlockError) {
            switch operation {
            case .nothing, .read, .write: break
            case .flush: try device.flush()
            case .trim(let isDurable):
                try device.discard(range(request.length))
                if isDurable { try device.flush() }
                tellWritten(request.offset, request.length)
            case .zero(let options, let isDurable):
                if let next = try zero(options, isDurable: isDurable, from: done) { return .unfinished(done: next) }
                tellWritten(request.offset, request.length)
            case .cache: try prefetch(isAbandoned)
            case .blockStatus(let isOne), .filteredBlockStatus(let isOne):
                let budget = Budget(looks: Self.looks, until: .now + Self.patience, isAbandoned: isAbandoned)
                try blockStatus(filter, isOne: isOne, into: buffer, .mayBlock(budget))
                return .finished(nil)
            }
        } catch {
            // A flush has no place.
            reply.fail(error, at: operation == .flush ? nil : request.offset + (done ?? 0), in: buffer)
            // That something is not faster than a write is no failure.
            return .finished(error.code == .notSupported ? nil : error)
        }
        reply.succeed(in: buffer)
        return .finished(nil)
    }

    /// Makes a range zero: at once where that is quick, else a slice of it.
    /// - Returns: how many bytes are done when there are more.
    private func zero(
        _ options: ZeroOptions, isDurable: Bool, from done: UInt64?
    ) throws(BlockError) -> UInt64? {
        let range = try range(request.length)
        let durable: ZeroOptions = isDurable ? [.durable] : []
        if range.length <= Self.zeroSlice || options.contains(.fastOnly) {
            try device.zero(range, options.union(durable))
            return nil
        }
        guard let done else {
            do throws(BlockError) {
                try device.zero(range, options.union(durable).union(.fastOnly))
                return nil
            } catch {
                guard error.code == .notSupported else { throw error }
                return 0
            }
        }
        let length = min(Self.zeroSlice, range.length - done)
        if let slice = ByteRange(offset: range.offset + done, length: length) { try device.zero(slice, options) }
        guard done + length == range.length else { return done + length }
        if isDurable { try device.flush() }
        return nil
    }

    /// Writes a part of the payload, which is unspecified afterwards. May block.
    func write(_ bytes: inout MutableRawSpan, part: Int, _ options: WriteOptions) -> BlockError? {
        let count = UInt64(bytes.byteCount)
        do throws(BlockError) {
            try device.write(&bytes, at: request.offset + UInt64(part), options)
            tellWritten(request.offset + UInt64(part), count)
            return nil
        } catch { return error }
    }

    /// Has all that was written be on disk. May block.
    func flush() -> BlockError? {
        do throws(BlockError) {
            try device.flush()
            return nil
        } catch { return error }
    }

    private func range(_ length: UInt64) throws(BlockError) -> ByteRange {
        guard let range = ByteRange(offset: request.offset, length: length), range.fits(device.size) else {
            throw .outOfRange("\(length) bytes at \(request.offset) reach beyond the export's \(device.size) bytes")
        }
        return range
    }

    private func prefetch(_ isAbandoned: @escaping @Sendable () -> Bool) throws(BlockError) {
        let budget = Budget(looks: Self.looks, until: .now + Self.patience, isAbandoned: isAbandoned)
        device.prefetch(try range(min(request.length, Self.longestPrefetch)), budget)
    }

    /// Tells who wants to know which bytes a client need not read.
    private func tellZeros(_ status: [StatusExtent], from offset: UInt64) {
        let observers = session.export.observers
        guard !observers.isEmpty else { return }
        var position = offset
        for extent in status {
            let end = position + extent.length
            if extent.flags & NBDProtocol.StatusFlags.zero != 0 {
                for observer in observers { observer.toldZeros(position..<end) }
            }
            position = end
        }
    }

    /// How many bytes the chunks of a block status with so many extents take at most.
    func lengthOfStatus(extents count: Int) -> Int {
        session.contexts.count * (session.mode.headLength + 8) + count * 16
    }

    /// Puts a chunk for each context into `buffer`.
    ///
    /// - Parameters:
    ///   - filter: of a block status that is asked for in some contexts only.
    ///   - isOne: the client wants one extent of each.
    ///   - mode: one budget for all contexts.
    /// - Throws: ``BlockError``; nothing has been added then.
    func blockStatus(
        _ filter: BlockStatusFilter?, isOne: Bool, into buffer: PayloadBuffer, _ mode: ReadMode
    ) throws(BlockError) {
        let range = try range(filter?.length ?? request.length)
        let contexts = session.contexts.filter { filter?.ids.contains($0.id) ?? true }
        // All of them share the buffer.
        let share = (buffer.payloadCapacity - Reply.longestWithoutData) / contexts.count
        let maximumCount = isOne ? 1 : (share - session.mode.headLength - 8) / (session.mode == .extended ? 16 : 8)
        var statuses: [[StatusExtent]] = []
        for selected in contexts {
            let status = try selected.context.status(of: device, range, maximumCount: maximumCount, mode)
            if case .allocation = selected.context { tellZeros(status, from: range.offset) }
            statuses.append(status)
        }
        for (index, (selected, extents)) in zip(contexts, statuses).enumerated() {
            reply.blockStatus(selected.id, extents, isDone: index == contexts.count - 1, in: buffer)
        }
    }
}
