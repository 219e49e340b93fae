// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// What a connection is doing, for other threads to see, also while its loop hangs. The loop writes it, at the end of all
/// that it does for the connection; each figure stands for itself.
struct ConnectionStatus: ~Copyable, Sendable {
    /// Where the conversation is.
    enum Stage: UInt8, AtomicRepresentable {
        case negotiation, securing, transmission, leaving, drained
    }

    fileprivate let stage = Atomic(Stage.negotiation)
    fileprivate let waiting = Atomic<UInt8>(0)
    fileprivate let isReading = Atomic(false)
    fileprivate let isWriting = Atomic(false)
    fileprivate let isInPieces = Atomic(false)
    fileprivate let isInPayload = Atomic(false)
    /// In bytes.
    fileprivate let receivedCount = Atomic(0)
    /// In bytes, of the buffer that is sent or filled.
    fileprivate let outgoingCount = Atomic(0)
    fileprivate let workersBusy = Atomic(0)
    fileprivate let starvedCount = Atomic(0)
}

extension Connection {
    private var stage: ConnectionStatus.Stage {
        switch phase {
        case .negotiating: .negotiation
        case .securing: .securing
        case .transmitting: .transmission
        case .leaving: .leaving
        case .drained: .drained
        }
    }

    /// Lets others see what it is doing. Called on the queue of the loop.
    func showStatus() {
        status.stage.store(stage, ordering: .relaxed)
        status.waiting.store(waiting.rawValue, ordering: .relaxed)
        status.isReading.store(watch?.isReading ?? false, ordering: .relaxed)
        status.isWriting.store(watch?.isWriting ?? false, ordering: .relaxed)
        let transmission = phase.transmission
        status.isInPieces.store(transmission?.pieces != nil, ordering: .relaxed)
        status.isInPayload.store(transmission?.writePayload != nil, ordering: .relaxed)
        status.receivedCount.store(input.count, ordering: .relaxed)
        status.outgoingCount.store(sendQueue.filledCount, ordering: .relaxed)
        status.workersBusy.store(transmission?.workersBusy ?? 0, ordering: .relaxed)
        status.starvedCount.store(transmission?.starved.count ?? 0, ordering: .relaxed)
    }

    /// What it is doing, as far as others may know: nothing of what is transferred. Any thread may ask.
    var report: ConnectionReport {
        // Its descriptor is its own as long as it has not been closed: else the numbers may be another's.
        let (receivable, unsent) = (socket.receivableCount, socket.unsentCount)
        let isClosed = isClosed
        return ConnectionReport(
            id: id, isClosed: isClosed, stage: status.stage.load(ordering: .relaxed),
            waiting: Waiting(rawValue: status.waiting.load(ordering: .relaxed)),
            isReading: status.isReading.load(ordering: .relaxed),
            isWriting: status.isWriting.load(ordering: .relaxed),
            isInPieces: status.isInPieces.load(ordering: .relaxed),
            isInPayload: status.isInPayload.load(ordering: .relaxed),
            receivedCount: status.receivedCount.load(ordering: .relaxed),
            outgoingCount: status.outgoingCount.load(ordering: .relaxed),
            workersBusy: status.workersBusy.load(ordering: .relaxed),
            starvedCount: status.starvedCount.load(ordering: .relaxed), memory: memory.usedBytes,
            receivableCount: isClosed ? 0 : receivable, unsentCount: isClosed ? 0 : unsent)
    }
}

/// What a connection is doing at a moment.
struct ConnectionReport: Sendable {
    let id: UInt64
    let isClosed: Bool
    let stage: ConnectionStatus.Stage
    let waiting: Waiting
    /// Is it told when its socket can be read?
    let isReading: Bool
    let isWriting: Bool
    /// A read is served piece by piece.
    let isInPieces: Bool
    /// The payload of a write is being received.
    let isInPayload: Bool
    /// Bytes that are received and not used.
    let receivedCount: Int
    /// Bytes that are to be sent next, or being sent.
    let outgoingCount: Int
    /// Requests that workers have, or wait for.
    let workersBusy: Int
    /// Requests for which there was no memory.
    let starvedCount: Int
    /// Of the memory for replies, in bytes.
    let memory: Int
    /// Bytes in the socket that are not received.
    let receivableCount: Int
    /// Bytes in the socket that the client has not taken.
    let unsentCount: Int

    /// Nothing is to be done before the client says something.
    var isIdle: Bool {
        !isClosed && stage == .transmission && waiting.isEmpty && isReading && !isInPieces && !isInPayload
            && receivedCount + outgoingCount + workersBusy + starvedCount + receivableCount + unsentCount == 0
    }

    /// For the log.
    var sentence: String {
        var waits = waiting.names
        if starvedCount > 0 { waits.append("memory") }
        if isInPieces { waits.append("the pieces of a read") }
        if isInPayload { waits.append("the payload of a write") }
        let interest = [isReading ? "readable" : nil, isWriting ? "writable" : nil].compactMap { $0 }
        return """
            client \(id): \(isClosed ? "closed" : "\(stage)"), \
            waits for \(waits.isEmpty ? "its client" : waits.joined(separator: " and ")), \
            is told when \(interest.isEmpty ? "nothing happens" : interest.joined(separator: " or ")); \
            \(receivedCount) bytes received, \(outgoingCount) to send, \(workersBusy) requests with workers, \
            \(starvedCount) without memory, \(memory) bytes of memory; \
            in the socket \(receivableCount) bytes to receive and \(unsentCount) that the client has not taken
            """
    }
}
