// SPDX-License-Identifier: Apache-2.0

/// What a connection has to send: the buffer that is being filled or sent, and the replies that workers have finished.
///
/// Belongs to the queue of the connection's loop.
struct Outbox {
    /// What became of an attempt to send.
    enum Flush {
        /// Everything has left, with so many bytes of data, and the memory has been given back.
        case done(dataCount: Int)
        /// The client does not take more for now.
        case blocked
        /// The client has gone.
        case closed
    }

    private let pool: ReplyBufferPool
    private(set) var buffer: ReplyBuffer?
    private var finished: [ReplyBuffer] = []

    init(pool: ReplyBufferPool) { self.pool = pool }

    /// Is there a reply that waits for its turn after the current buffer?
    var hasFinished: Bool { !finished.isEmpty }
    /// Bytes in the current buffer.
    var filledCount: Int { buffer?.count ?? 0 }
    /// Has something been put into the current buffer?
    var isFilling: Bool { buffer.map { !$0.isEmpty } ?? false }

    /// A buffer with room for `count` bytes, be they added to others; nil when others must leave first, or when there is
    /// no memory.
    ///
    /// - Parameter payload: how large a new buffer should be when there is none.
    mutating func room(for count: Int, payload: Int) -> ReplyBuffer? {
        if let buffer, buffer.isEmpty, buffer.room < count { release() }
        if buffer == nil {
            buffer = pool.take(payload: payload)
            if buffer == nil, count <= ReplyBufferPool.smallestPayload + ReplyBufferPool.headRoom {
                buffer = pool.takeSmallest()
            }
        }
        return buffer.flatMap { $0.room >= count ? $0 : nil }
    }

    /// Puts a filled buffer at the end of the line.
    mutating func enqueue(_ filled: ReplyBuffer) { finished.append(filled) }

    /// Puts a buffer of which a part has left before all others, of which none has.
    mutating func resume(_ partial: ReplyBuffer) {
        if let buffer, !buffer.isEmpty { finished.insert(buffer, at: 0) } else { release() }
        buffer = partial
    }

    /// Sends the current buffer.
    mutating func flush(to stream: any ByteStream) -> Flush {
        if let buffer, !buffer.isEmpty {
            switch buffer.send(to: stream) {
            case .bytes: break
            case .wouldBlock: return .blocked
            case .closed: return .closed
            }
        }
        let dataCount = buffer?.dataCount ?? 0
        release()
        return .done(dataCount: dataCount)
    }

    /// Makes the next finished reply the current one, which has left.
    mutating func advance() {
        release()
        buffer = finished.removeFirst()
    }

    /// Gives the memory of the current buffer back.
    mutating func release() {
        if let buffer { pool.put(buffer) }
        buffer = nil
    }

    /// Gives all memory back.
    mutating func releaseAll() {
        release()
        for buffer in finished { pool.put(buffer) }
        finished = []
    }
}
