// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Logging
import Synchronization

/// What a client has transferred so far, and how many of its failures have been told.
///
/// Belongs to the queue of the connection's loop, but for ``addSentByWorker(_:)``.
final class ClientAccounts: @unchecked Sendable {
    /// What a client does for the first time.
    enum Milestone {
        /// It has transferred something.
        case started
        /// It has transferred enough to be more than a probe.
        case transferred
    }

    /// A client that has read no more than this many bytes has only looked: `nbdinfo` and `qemu-img info` read the start
    /// of a disk to guess what is in it.
    static let probeLimit: UInt64 = 16 << 10
    /// A client that goes on over a damaged image does not fill the disk with the log.
    private static let failuresToTell = 16

    private(set) var bytesRead: UInt64 = 0
    private var bytesTransferred: UInt64 = 0
    private var hasStarted = false
    private var hasTransferred = false
    /// From how many bytes on the client counts as more than a probe.
    private var threshold = probeLimit + 1
    private var failureCount = 0
    /// Bytes of data that are not counted yet.
    private let sentByWorkers = Atomic(0)

    /// The client has chosen a disk of this size, in bytes: who has read all of a small one has done more than look.
    func expect(_ size: UInt64) { threshold = min(size, threshold) }

    /// Counts data that has been sent, or written.
    func count(read: Int, written: UInt64, reached: (Milestone) -> Void) {
        if !hasStarted {
            hasStarted = true
            reached(.started)
        }
        bytesRead += UInt64(read)
        bytesTransferred += UInt64(read) + written
        if !hasTransferred, bytesTransferred >= threshold {
            hasTransferred = true
            reached(.transferred)
        }
    }

    /// Adds bytes of data that a worker has sent. Any thread may call.
    func addSentByWorker(_ count: Int) { sentByWorkers.add(count, ordering: .relaxed) }

    /// What workers have sent since the last call, in bytes; to be counted.
    func takeSentByWorkers() -> Int { sentByWorkers.exchange(0, ordering: .relaxed) }

    /// What becomes of a failure in the log.
    enum Telling {
        case told, last, untold
    }

    /// Counts a failed request.
    func countFailure() -> Telling {
        failureCount += 1
        if failureCount > Self.failuresToTell { return .untold }
        return failureCount == Self.failuresToTell ? .last : .told
    }
}

extension Connection {
    /// Counts data that has been sent, or written.
    func count(read: Int = 0, written: UInt64 = 0) {
        accounts.count(read: read, written: written) { milestone in
            switch milestone {
            case .started: context.observe(.started(id: id))
            case .transferred: context.observe(.transferred(id: id))
            }
        }
    }

    /// Counts what workers have sent.
    func countSentByWorkers() {
        let sent = accounts.takeSentByWorkers()
        if sent > 0 { count(read: sent) }
    }

    /// Logs a failed request, unless there have been many.
    func report(_ error: BlockError) {
        // Work that nobody waits for ends in an error that says nothing.
        guard !isClosed else { return }
        let telling = accounts.countFailure()
        if telling != .untold { log.error("\(error.description)") }
        if telling == .last { log.error("further failures of this connection are not logged") }
    }
}
