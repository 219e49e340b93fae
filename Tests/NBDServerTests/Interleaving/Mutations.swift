// SPDX-License-Identifier: Apache-2.0

import Glibc

@testable import NBDServer

extension Mutation {
    /// The loop gives the right back as soon as a send has taken everything, be it a piece of a reply.
    static var rightGivenBackBetweenPieces: Mutation {
        var mutation = Mutation()
        mutation.stream = { RelinquishingStream($0, $1) }
        return mutation
    }

    /// A worker that finds the right taken takes its reply for sent.
    static var replyNotHandedOver: Mutation {
        var mutation = Mutation()
        mutation.right = { PretendingRight() }
        mutation.stream = { PretendingStream($0, $1) }
        return mutation
    }

    static func right(_ make: @escaping @Sendable () -> SendingRight) -> Mutation {
        var mutation = Mutation()
        mutation.right = make
        return mutation
    }

    static var forgottenRoom: Mutation {
        var mutation = Mutation()
        mutation.forgetsRoom = true
        return mutation
    }

    static var lostWakeUp: Mutation {
        var mutation = Mutation()
        mutation.sleepsOverMail = true
        return mutation
    }
}

/// A worker does not give the right back.
final class StingyRight: SendingRight, @unchecked Sendable {
    override func giveBackFromWorker() -> Bool { true }
}

/// The loop does not give the right back.
final class StingyLoopRight: SendingRight, @unchecked Sendable {
    override func giveBackFromLoop() {}
}

/// The loop does not take what a worker has handed to it when the socket was full.
final class UnheardRight: SendingRight, @unchecked Sendable {
    override func takeHanded() {}
}

/// A worker for which the socket was full gives the right back, as if it had sent all of its reply.
final class HastyRight: SendingRight, @unchecked Sendable {
    override func handToLoop() -> Bool { giveBackFromWorker() }
}

/// A worker sends whether it has the right or not.
final class PushyRight: SendingRight, @unchecked Sendable {
    override func takeForWorker() -> Bool {
        _ = super.takeForWorker()
        return true
    }
}

/// The loop sends whether it has the right or not.
final class PushyLoopRight: SendingRight, @unchecked Sendable {
    override func takeForLoop() -> Bool {
        _ = super.takeForLoop()
        return true
    }
}

/// The connection is closed without asking whether a worker is sending.
final class RecklessRight: SendingRight, @unchecked Sendable {
    override func close() -> Bool {
        _ = super.close()
        return true
    }
}

/// A worker does not hear that the connection was closed while it was sending.
final class DeafRight: SendingRight, @unchecked Sendable {
    override func giveBackFromWorker() -> Bool {
        _ = super.giveBackFromWorker()
        return true
    }
}

/// Passes everything on.
private class PassingStream: ByteStream, @unchecked Sendable {
    let inner: any ByteStream

    init(_ inner: any ByteStream) { self.inner = inner }

    var isTwoWay: Bool { inner.isTwoWay }
    var hasPending: Bool { inner.hasPending }
    func receive(into buffer: inout MutableRawSpan) -> Socket.Progress { inner.receive(into: &buffer) }
    func send(_ bytes: RawSpan) -> Socket.Progress { inner.send(bytes) }
    func endSending() { inner.endSending() }
}

private final class RelinquishingStream: PassingStream, @unchecked Sendable {
    private let right: SendingRight

    init(_ inner: any ByteStream, _ right: SendingRight) {
        self.right = right
        super.init(inner)
    }

    override func send(_ bytes: RawSpan) -> Socket.Progress {
        let progress = inner.send(bytes)
        // Of a worker it is not.
        if progress == .bytes(bytes.byteCount) { right.giveBackFromLoop() }
        return progress
    }
}

private final class PretendingRight: SendingRight, @unchecked Sendable {
    /// Threads that believe that they have it. One of them works at a time.
    private var pretenders: Set<pthread_t> = []

    var isPretended: Bool { pretenders.contains(pthread_self()) }

    override func takeForWorker() -> Bool {
        if !super.takeForWorker() { pretenders.insert(pthread_self()) }
        return true
    }

    override func giveBackFromWorker() -> Bool {
        if pretenders.remove(pthread_self()) != nil { return true }
        return super.giveBackFromWorker()
    }
}

private final class PretendingStream: PassingStream, @unchecked Sendable {
    private let right: PretendingRight?

    init(_ inner: any ByteStream, _ right: SendingRight) {
        self.right = right as? PretendingRight
        super.init(inner)
    }

    override func send(_ bytes: RawSpan) -> Socket.Progress {
        right?.isPretended == true ? .bytes(bytes.byteCount) : inner.send(bytes)
    }
}
