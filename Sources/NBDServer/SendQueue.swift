// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// What a connection has to send: the buffer that is being filled or sent, and the replies that workers have finished.
///
/// The loop's side of ``SendingRight``, which it keeps here from the first byte of a reply to the last, be it in one buffer or in
/// pieces.
///
/// Belongs to the queue of the connection's loop. It is an object of its own, since of a value in the connection it
/// would be checked at each call, while the program runs, that nobody else is using it.
final class SendQueue {
    /// What became of an attempt to send.
    enum Flush {
        /// Everything has left, with so many bytes of data, and the memory has been given back.
        case done(dataCount: Int)
        /// A worker is sending; it tells the loop when it has finished.
        case waitsForRight
        /// The client does not take more for now.
        case blocked
        /// The client has gone.
        case closed
    }

    private let memory: PayloadShare
    private let right: SendingRight
    private(set) var buffer: PayloadBuffer?
    /// Whole replies.
    private var finished: [PayloadBuffer] = []
    /// The next piece of a reply.
    private var piece: (buffer: PayloadBuffer, isLast: Bool)?
    /// Pieces of the reply in the current buffer, or of the last one that has left, are still to come.
    private var isInReply = false

    init(memory: PayloadShare, right: SendingRight) {
        self.memory = memory
        self.right = right
    }

    /// Is there something that may be sent after the current buffer?
    var hasNext: Bool { piece != nil || (!isInReply && !finished.isEmpty) }
    /// Bytes in the current buffer.
    var filledCount: Int { buffer?.count ?? 0 }
    /// Has something been put into the current buffer?
    var isFilling: Bool { buffer.map { !$0.isEmpty } ?? false }

    /// A buffer with room for `count` bytes of whole replies, be they added to others; nil when others must leave first, when
    /// a reply has begun and its pieces are still to come, or when there is no memory.
    ///
    /// - Parameter payload: how large a new buffer should be when there is none.
    func room(for count: Int, payload: Int) -> PayloadBuffer? {
        guard !isInReply else { return nil }
        if let buffer, buffer.isEmpty, buffer.room < count { release() }
        if buffer == nil {
            buffer = memory.take(payload: payload)
            if buffer == nil, count <= memory.sizes.smallestCapacity {
                buffer = memory.takeSmallest()
            }
        }
        return buffer.flatMap { $0.room >= count ? $0 : nil }
    }

    /// Adds bytes of the negotiation, which no reply of a worker overtakes.
    /// - Returns: false when there is no room for them.
    func add(_ bytes: [UInt8]) -> Bool {
        guard let buffer = room(for: bytes.count, payload: memory.sizes.smallest) else { return false }
        buffer.append(bytes[...])
        _ = right.takeForLoop()
        return true
    }

    /// Puts a whole reply at the end of the line; if it has no data, into the buffer of the one before it, so that the replies
    /// to many small writes leave together.
    func enqueue(_ filled: PayloadBuffer) {
        guard let last = finished.last, filled.dataCount == 0, filled.count <= min(last.room, Reply.longestWithoutData)
        else { return finished.append(filled) }
        filled.withFilled { reply in last.append(reply.byteCount) { $0.copy(from: reply.bytes) } }
        memory.put(filled)
    }

    /// Puts the next piece of a reply before all others; the one before has left.
    func enqueue(piece: PayloadBuffer, isLast: Bool) { self.piece = (piece, isLast) }

    /// Puts a whole reply, of which a worker has sent a part, before all others, of which nothing has left.
    func resume(_ partial: PayloadBuffer) {
        right.takeHanded()
        if let buffer, !buffer.isEmpty { finished.insert(buffer, at: 0) } else { release() }
        buffer = partial
    }

    /// Sends the current buffer.
    func flush(to stream: any ByteStream) -> Flush {
        if let buffer, !buffer.isEmpty {
            guard right.takeForLoop() else { return .waitsForRight }
            switch buffer.send(to: stream) {
            case .bytes: break
            case .wouldBlock: return .blocked
            case .closed: return .closed
            }
        }
        let dataCount = buffer?.dataCount ?? 0
        release()
        if !isInReply { right.giveBackFromLoop() }
        return .done(dataCount: dataCount)
    }

    /// Makes what is next the current buffer, which has left.
    func advance() {
        release()
        if let piece {
            buffer = piece.buffer
            isInReply = !piece.isLast
            self.piece = nil
        } else {
            buffer = finished.removeFirst()
        }
    }

    /// Gives the memory of the current buffer back.
    func release() {
        if let buffer { memory.put(buffer) }
        buffer = nil
    }

    /// Gives all memory back.
    func releaseAll() {
        release()
        if let piece { memory.put(piece.buffer) }
        piece = nil
        for buffer in finished { memory.put(buffer) }
        finished = []
    }
}
