// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Glibc
import Logging
import SystemPackage

@testable import NBDServer

/// A connection whose loop does nothing by itself: whoever made it says which step it takes, and has its bytes and its work.
///
/// Steps are taken, and looked for, on the queue of the loop.
final class SteppedConnection: Sendable {
    /// What a loop does at a time.
    enum Step: UInt64 {
        /// The first piece of work from other threads.
        case mail
        /// What the socket is ready for.
        case readable, writable
    }

    private let loop: EventLoop
    private let connection: Connection
    /// Of the socket. A number of a descriptor could be another's after it has been closed; this one is of no other socket.
    private let inode: ino_t

    /// - Parameters:
    ///   - loop: is driven.
    ///   - stream: what the client says and is told; nothing goes through the socket, which is there to be watched and closed.
    ///   - workers: of all exports.
    ///   - log: told what the server says of the client; nil for nobody.
    ///   - observe: what the server wants to know.
    init(
        _ loop: EventLoop, _ exports: [Export], limits: ServerLimits, buffers: PayloadBufferPool, processors: Int,
        stream: any ByteStream, workers: any Workers, right: SendingRight = SendingRight(), log: Logger? = nil,
        observe: @escaping @Sendable (Connection.Event) -> Void = { _ in }
    ) throws(Errno) {
        self.loop = loop
        var pair: [Int32] = [-1, -1]
        guard unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0 else {
            throw Errno(rawValue: errno)
        }
        close(pair[0])
        guard let inode = Self.inode(of: pair[1]) else { throw Errno(rawValue: errno) }
        self.inode = inode
        let context = ServerContext(
            exports: ExportTable(exports), limits: limits, buffers: buffers, files: workers,
            processors: SpareProcessors(total: processors), tls: .off, handshakes: workers,
            log: ClientLog(log ?? Logger(label: "driven") { _ in SwiftLogNoOpLogHandler() }),
            offersMore: { _ in true }, observe: observe)
        connection = Connection(
            id: 1, socket: Socket(accepted: FileDescriptor(rawValue: pair[1])), loop: loop, context: context,
            right: right)
        connection.stream = stream
    }

    private static func inode(of descriptor: Int32) -> ino_t? {
        var status = stat()
        return unsafe fstat(descriptor, &status) == 0 ? status.st_ino : nil
    }

    /// Steps that the loop can take now.
    /// - Parameter canReceive: there is something to receive, or nothing will come any more.
    func steps(canReceive: Bool) -> [Step] {
        var steps: [Step] = []
        if loop.hasWork { steps.append(.mail) }
        if canReceive, connection.watch?.isReading == true { steps.append(.readable) }
        if connection.watch?.isWriting == true { steps.append(.writable) }
        return steps
    }

    /// Has the loop take a step.
    func take(_ step: Step) {
        switch step {
        case .mail: _ = loop.step()
        case .readable: connection.readable(loop.scratch)
        case .writable: connection.writable()
        }
    }

    /// See ``Connection/start()``.
    func start() { connection.start() }
    /// See ``Connection/leave()``.
    func leave() { connection.leave() }
    /// See ``Connection/abort()``.
    func abort() { connection.abort() }

    /// Has the client chosen an export, and not said good-bye?
    var hasChosenExport: Bool { if case .transmitting = connection.phase { true } else { false } }
    var isClosed: Bool { connection.isClosed }
    /// Requests that workers have, or wait for.
    var workersBusy: Int { connection.workersBusy }
    /// How many pieces of work wait for the loop.
    var workCount: Int { loop.workCount }
    /// Is the socket still open?
    var hasSocket: Bool { Self.inode(of: connection.socket.descriptor.rawValue) == inode }
}
