// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing

@testable import NBDServer

@Suite struct SendingRightTests {
    @Test func `one side has the right at a time, and the loop keeps it until all has left`() {
        let right = SendingRight()
        #expect(right.takeForLoop())
        #expect(right.takeForLoop())
        #expect(!right.takeForWorker())
        right.giveBackFromLoop()
        #expect(right.takeForWorker())
        #expect(!right.takeForWorker())
        #expect(!right.takeForLoop())
        // Giving back what one does not have changes nothing.
        right.giveBackFromLoop()
        #expect(!right.takeForLoop())
        #expect(right.giveBackFromWorker())
        #expect(right.takeForLoop())
    }

    @Test func `nothing comes between a part that a worker has sent and the rest`() {
        let right = SendingRight()
        #expect(right.takeForWorker())
        #expect(right.handToLoop())
        // The loop has not heard of it yet, and may not send anything else.
        #expect(!right.takeForLoop())
        #expect(!right.takeForWorker())
        right.takeHanded()
        #expect(right.takeForLoop())
        #expect(!right.takeForWorker())
    }

    @Test func `a worker that sends when the connection is closed is the one to end it`() {
        let sending = SendingRight()
        #expect(sending.takeForWorker())
        #expect(!sending.close())
        #expect(!sending.giveBackFromWorker())
        let stuck = SendingRight()
        #expect(stuck.takeForWorker())
        #expect(!stuck.close())
        #expect(!stuck.handToLoop())
        let finished = SendingRight()
        #expect(finished.takeForWorker())
        #expect(finished.handToLoop())
        #expect(finished.close())
        let idle = SendingRight()
        #expect(idle.close())
        #expect(!idle.takeForWorker())
        #expect(!idle.takeForLoop())
    }

    @Test func `a reply in pieces keeps the right from its first byte to its last`() throws {
        let memory = PayloadShare(of: PayloadBufferPool(maximumBytes: 1 << 20))
        let right = SendingRight()
        let sendQueue = SendQueue(memory: memory, right: right)
        let stream = RecordingStream()
        func buffer(_ bytes: [UInt8]) throws -> PayloadBuffer {
            let buffer = try #require(memory.takeSmallest())
            buffer.append(bytes[...])
            return buffer
        }
        sendQueue.enqueue(piece: try buffer([1]), isLast: false)
        sendQueue.advance()
        guard case .done = sendQueue.flush(to: stream) else { throw Unexpected() }
        // Nothing is there to be sent, but the reply has begun.
        guard case .done = sendQueue.flush(to: stream) else { throw Unexpected() }
        #expect(!right.takeForWorker())
        // What a worker hands to the loop waits, and nothing is added.
        let whole = try buffer([9])
        sendQueue.enqueue(whole)
        #expect(!sendQueue.hasNext)
        let early = sendQueue.room(for: 1, payload: 1)
        #expect(early == nil)
        sendQueue.enqueue(piece: try buffer([2]), isLast: false)
        #expect(sendQueue.hasNext)
        sendQueue.advance()
        guard case .done = sendQueue.flush(to: stream) else { throw Unexpected() }
        #expect(!right.takeForWorker())
        sendQueue.enqueue(piece: try buffer([3]), isLast: true)
        sendQueue.advance()
        // The last piece is the current buffer, and has not left: the loop may take the next requests now.
        #expect(!right.takeForWorker())
        let added = sendQueue.room(for: 1, payload: 1)
        try #require(added != nil)
        added?.append([4])
        guard case .done = sendQueue.flush(to: stream) else { throw Unexpected() }
        #expect(right.takeForWorker())
        #expect(right.giveBackFromWorker())
        #expect(sendQueue.hasNext)
        sendQueue.advance()
        guard case .done = sendQueue.flush(to: stream) else { throw Unexpected() }
        #expect(stream.bytes.withLock { $0 } == [1, 2, 3, 4, 9])
    }

    private struct Unexpected: Error {}
}

/// Keeps what is sent.
private final class RecordingStream: ByteStream {
    let bytes = Mutex<[UInt8]>([])
    let isTwoWay = true
    let hasPending = false

    func receive(into buffer: inout MutableRawSpan) -> Socket.Progress { .wouldBlock }

    func send(_ span: RawSpan) -> Socket.Progress {
        let new = unsafe span.withUnsafeBytes { unsafe Array($0) }
        bytes.withLock { $0 += new }
        return .bytes(span.byteCount)
    }

    func endSending() {}
}
