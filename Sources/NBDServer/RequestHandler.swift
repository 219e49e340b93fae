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
    /// How often the layers are asked for the status of a range, for all contexts together.
    private static let statusLooks = 4096

    /// Puts a part of the data into `buffer`, and the head of the reply where one belongs.
    ///
    /// - Parameter part: in bytes from the start of the data.
    /// - Returns: why it cannot be done; nothing has been added then.
    func read(_ part: Range<Int>, into buffer: ReplyBuffer, _ mode: ReadMode) -> BlockError? {
        do throws(BlockError) {
            try reply.data(part, in: buffer) { (data) throws(BlockError) in
                try device.read(into: &data, at: request.offset + UInt64(part.lowerBound), mode)
            }
            return nil
        } catch { return error }
    }

    /// Carries out an operation that needs no payload and whose reply has no data, and puts the reply into `buffer`. May
    /// block.
    ///
    /// - Parameter filter: of a block status that is asked for in some contexts only.
    /// - Returns: why it failed, for the log; the reply says so, too.
    func perform(
        _ operation: RequestRules.Operation, filter: BlockStatusFilter? = nil, into buffer: ReplyBuffer
    ) -> BlockError? {
        do throws(BlockError) {
            switch operation {
            case .nothing, .read, .write: break
            case .flush: try device.flush()
            case .trim(let isDurable): try change(isDurable) { (range) throws(BlockError) in try device.discard(range) }
            case .zero(let options, let isDurable):
                try change(isDurable) { (range) throws(BlockError) in try device.zero(range, options) }
            case .cache: try prefetch()
            case .blockStatus(let isOne), .filteredBlockStatus(let isOne):
                try blockStatus(filter, isOne: isOne, into: buffer)
                return nil
            }
        } catch {
            // A flush has no place.
            reply.fail(error, at: operation == .flush ? nil : request.offset, in: buffer)
            // That something is not faster than a write is no failure.
            return error.code == .notSupported ? nil : error
        }
        reply.succeed(in: buffer)
        return nil
    }

    /// Writes a part of the payload. May block.
    func write(_ bytes: RawSpan, part: Int) -> BlockError? {
        do throws(BlockError) {
            try device.write(bytes, at: request.offset + UInt64(part))
            return nil
        } catch { return error }
    }

    private func range(_ length: UInt64) throws(BlockError) -> ByteRange {
        guard let range = ByteRange(offset: request.offset, length: length), range.fits(device.size) else {
            throw .outOfRange("\(length) bytes at \(request.offset) reach beyond the export's \(device.size) bytes")
        }
        return range
    }

    private func change(_ isDurable: Bool, _ body: (ByteRange) throws(BlockError) -> Void) throws(BlockError) {
        try body(range(request.length))
        if isDurable { try device.flush() }
    }

    private func prefetch() throws(BlockError) {
        device.prefetch(try range(min(request.length, Self.longestPrefetch)))
    }

    /// A chunk for each context.
    private func blockStatus(
        _ filter: BlockStatusFilter?, isOne: Bool, into buffer: ReplyBuffer
    ) throws(BlockError) {
        let range = try range(filter?.length ?? request.length)
        guard range.length > 0 else { throw .outOfRange("the status of 0 bytes was asked for") }
        let contexts = session.contexts.filter { filter?.ids.contains($0.id) ?? true }
        // All of them share the buffer.
        let share = (ReplyBufferPool.smallestPayload - Reply.longestWithoutData) / contexts.count
        let maximumCount = isOne ? 1 : (share - session.mode.headLength - 8) / (session.mode == .extended ? 16 : 8)
        for (index, selected) in contexts.enumerated() {
            let extents = try selected.context.status(
                of: device, range, maximumCount: maximumCount, looks: max(1, Self.statusLooks / contexts.count))
            reply.blockStatus(selected.id, extents, isDone: index == contexts.count - 1, in: buffer)
        }
    }
}
