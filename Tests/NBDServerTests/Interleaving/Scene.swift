// SPDX-License-Identifier: Apache-2.0

import Dispatch
import TestSupport

@testable import NBDServer

/// What goes on with a connection whose ways are walked.
struct Scene: Sendable {
    /// Why the connection is not only served; when it comes, is walked.
    enum Interruption {
        /// The server is told to stop: what has been asked for is answered, and the socket closed then.
        case stop
        /// The server closes the connection, whatever is under way.
        case abort
        /// The client is gone: nothing can be sent to it any more.
        case hangUp
    }

    /// What the client asks for, in the parts that arrive together.
    var arrivals: [[WireRequest]]
    var interruption: Interruption?
    /// How many sends at most take nothing, or a half only.
    var shortSends = 2
    var workers = 2
    /// For so many of the smallest buffers.
    var memory = 100
    var sizes = PayloadSizes(smallest: 16 << 10)
    /// What is broken on purpose.
    var mutation = Mutation()

    /// No time passes.
    static let limits: ServerLimits = {
        var limits = ServerLimits()
        (limits.negotiation, limits.goodbye, limits.farewell, limits.stallLook) = (.never, .never, .never, .never)
        return limits
    }()

    /// Must the client have got all replies in the end?
    var isAllOwed: Bool { interruption == nil || interruption == .stop }

    /// What the client may have got.
    var transcript: ReplyTranscript {
        ReplyTranscript(arrivals.flatMap { $0 }, of: Self.contents, mayStop: interruption == .stop)
    }

    /// Of the disk.
    static let contents = (0..<(64 << 10)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

    /// A read that the disk cannot answer at once, so that a worker does.
    static func read(_ cookie: UInt64, offset: UInt64 = 0, length: UInt64) -> WireRequest {
        WireRequest(.read, cookie: cookie, offset: offset, length: length)
    }

    /// A read behind the end, which the loop refuses.
    static func refused(_ cookie: UInt64) -> WireRequest { read(cookie, offset: UInt64(contents.count), length: 1) }
}

/// A way in which the connection is broken. The tests of the walk are that it finds what comes of it.
struct Mutation: Sendable {
    var right: @Sendable () -> SendingRight = { SendingRight() }
    var stream: @Sendable (any ByteStream, SendingRight) -> any ByteStream = { stream, _ in stream }
    /// The loop is not told that there is room in the socket again.
    var forgetsRoom = false
    /// The loop goes to sleep without looking whether work has come while it was awake.
    var sleepsOverMail = false
}

/// What must not be on any path.
enum Harm: Equatable {
    /// Bytes of two replies, or of none, where those of one must be; or two that send at the same time.
    case mixedReplies
    /// The right is free while a reply has begun and its end is still to come: whatever is finished next could come between.
    case rightGivenUp
    /// Nothing goes on, and a reply is missing.
    case lostReply
    /// Nothing goes on, and somebody has the right to send.
    case keptRight
    /// The socket has been closed while a worker uses it.
    case closedInUse
    /// The connection is to end, and does not: its socket is open, or memory has not been given back.
    case noEnd
}
