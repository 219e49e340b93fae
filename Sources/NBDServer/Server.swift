// SPDX-License-Identifier: Apache-2.0

public import BlockIO
public import Dispatch
public import Logging
public import SystemPackage

/// An NBD server: exports, listening sockets, connections.
public final class Server: Sendable {
    struct State {
        var listeners: [Listener] = []
        var connections: [UInt64: Client] = [:]
        var nextID: UInt64 = 1
        var isStopping = false
        var hasTransferred = false
        var bytesRead: UInt64 = 0
        var stopped: CheckedContinuation<Void, Never>?

        /// Chooses who makes room for a new client: the oldest that has not chosen an export. Those that have one keep their
        /// place, however idle they are: behind such a connection there may be somebody's disk.
        mutating func evictOldest() -> Connection? {
            let candidates = connections.filter { !$0.value.isNegotiated && !$0.value.isEvicted }
            guard let oldest = candidates.keys.min() else { return nil }
            connections[oldest]?.isEvicted = true
            return connections[oldest]?.connection
        }
    }

    struct Client {
        let connection: Connection
        var isNegotiated = false
        var hasRead = false
        /// It has to go, but its socket is still open.
        var isEvicted = false
        /// It has been told that it may open more connections.
        var isOfferedMore = false
    }

    /// A client that has read no more than this many bytes has only looked.
    public static let probeLimit = ClientAccounts.probeLimit
    /// The longest name of an export in bytes.
    public static let maximumNameLength = NBDProtocol.maximumStringLength

    let state = Locked(State())
    let loops: [EventLoop]
    let exports: ExportTable
    let limits: ServerLimits
    let buffers: PayloadBufferPool
    /// The lane of all files.
    let files: Lane
    private let processors: SpareProcessors
    private let tls: TLSPolicy
    let handshakes: Lane
    let log: ClientLog
    private let transfersEnded: @Sendable () -> Void

    /// - Parameters:
    ///   - tls: what clients must and can do to keep others from listening.
    ///   - processorCount: loops to serve connections on; reads that wait get workers beside them.
    ///   - transfersEnded: called when the last client that transferred data has gone, each time that this happens; on
    ///     any thread. A client that only looked at the start of the disk does not count.
    /// - Throws: `Errno` when the system has no descriptor for an event loop.
    public init(
        exports: ExportTable, limits: ServerLimits = ServerLimits(), tls: TLSPolicy = .off, processorCount: Int,
        log: Logger,
        transfersEnded: @escaping @Sendable () -> Void = {}
    ) throws(Errno) {
        self.exports = exports
        self.limits = limits
        self.log = ClientLog(log)
        self.transfersEnded = transfersEnded
        let processors = SpareProcessors(total: processorCount)
        self.processors = processors
        self.loops = try (0..<max(2, processorCount)).map { (index) throws(Errno) in
            try EventLoop(index: index, processors: processors)
        }
        self.files = Lane(name: "files", width: max(Lane.filesWidth, processorCount))
        self.tls = tls
        self.handshakes = Lane(name: "handshakes", width: processorCount)
        self.buffers = PayloadBufferPool(maximumBytes: limits.replyBytes)
    }

    /// How many bytes all clients have read so far; of a connection that is still open nothing is counted.
    public var bytesRead: UInt64 { state.withLock { $0.bytesRead } }

    /// How many clients are connected.
    public var connectionCount: Int { state.withLock { $0.connections.count } }

    /// Accepts clients from now on. The server owns the socket.
    public func listen(on socket: ListeningSocket) {
        let listener = Listener(socket) { [weak self] in
            self?.makeRoomForDescriptor() ?? false
        } accepted: { [weak self] descriptor in
            if let self { self.admit(descriptor) } else { try? descriptor.close() }
        }
        state.withLock { $0.listeners.append(listener) }
    }

    /// Serves one connected stream socket, which the server owns from now on.
    public func admit(_ descriptor: FileDescriptor) {
        let socket = Socket(accepted: descriptor)
        let (isAdmitted, evicted): (Bool, Connection?) = state.withLock { state in
            guard !state.isStopping else { return (false, nil) }
            var evicted: Connection?
            if state.connections.count >= limits.connections {
                // Until the socket of the one that goes is closed both count; that takes long only when workers are busy with
                // TLS handshakes.
                guard state.connections.count < 2 * limits.connections else { return (false, nil) }
                evicted = state.evictOldest()
                guard evicted != nil else { return (false, nil) }
            }
            let id = state.nextID
            state.nextID += 1
            let connection = Connection(
                id: id, socket: socket, loop: loops[Int(id % UInt64(loops.count))], context: context)
            state.connections[id] = Client(connection: connection)
            // Only queues its start; before anybody else can find it and queue its end.
            connection.start()
            return (true, evicted)
        }
        evicted?.abort()
        guard isAdmitted else {
            log.stranger.info(
                "a client was turned away: the server stops, or \(limits.connections) have chosen an export")
            return socket.close()
        }
    }

    /// Called when the process has no descriptor left for a client that waits.
    /// - Returns: true when another one gives up its own.
    private func makeRoomForDescriptor() -> Bool {
        let evicted: Connection? = state.withLock { $0.isStopping ? nil : $0.evictOldest() }
        evicted?.abort()
        if evicted == nil {
            log.stranger.info("a client was turned away: there is no file descriptor for it; raise `ulimit -n`")
        }
        return evicted != nil
    }

    /// Says whether a client that chooses an export is offered more connections. Those that it opens then are offered the
    /// same: what programs are told has to be the same for all.
    private func offersMore(_ id: UInt64) -> Bool {
        state.withLock { state in
            guard let client = state.connections[id] else { return false }
            let others = state.connections.filter { $0.key != id && $0.value.isNegotiated }
            let isOffered =
                limits.connections - others.count >= limits.multiConnections
                || limits.connections >= limits.multiConnections && client.connection.owner.peer != .other
                    && others.values.contains {
                        $0.isOfferedMore && $0.connection.owner.peer == client.connection.owner.peer
                    }
            state.connections[id]?.isOfferedMore = isOffered
            return isOffered
        }
    }

    private var context: ServerContext {
        ServerContext(
            exports: exports, limits: limits, buffers: buffers, files: files, processors: processors, tls: tls,
            handshakes: handshakes,
            log: log, offersMore: { [weak self] id in self?.offersMore(id) ?? false }
        ) { [weak self] event in self?.observe(event) }
    }

    private func observe(_ event: Connection.Event) {
        let (isEnd, stopped): (Bool, CheckedContinuation<Void, Never>?) = state.withLock { state in
            switch event {
            case .negotiated(let id): state.connections[id]?.isNegotiated = true
            case .started(let id): state.connections[id]?.hasRead = true
            case .transferred: state.hasTransferred = true
            case .ended(let id, let bytesRead):
                state.bytesRead += bytesRead
                let hadRead = state.connections.removeValue(forKey: id)?.hasRead ?? false
                let isEnd = hadRead && state.hasTransferred && !state.connections.values.contains { $0.hasRead }
                guard state.isStopping, state.connections.isEmpty else { return (isEnd, nil) }
                defer { state.stopped = nil }
                return (isEnd, state.stopped)
            }
            return (false, nil)
        }
        stopped?.resume()
        if isEnd { transfersEnded() }
    }

    /// Brings to disk what clients have written and not flushed; call it when ``stop(patience:)`` has ended. It may wait.
    ///
    /// - Returns: exports of which not everything is on disk, and why.
    public func flush() -> [(export: Export, error: BlockError)] {
        exports.exports.compactMap { export -> (export: Export, error: BlockError)? in
            guard export.device.isWritable else { return nil }
            do throws(BlockError) { try export.device.flush() } catch { return (export, error) }
            return nil
        }
    }

    /// Stops listening, lets the requests that are under way finish, and closes all connections.
    ///
    /// - Parameter patience: clients that do not take their replies for so long are cut off.
    public func stop(patience: DispatchTimeInterval) async {
        let (listeners, connections) = state.withLock { state in
            state.isStopping = true
            defer { state.listeners = [] }
            return (state.listeners, state.connections.values.map(\.connection))
        }
        for listener in listeners { listener.stop() }
        for connection in connections { connection.leave() }
        DispatchQueue.global().asyncAfter(deadline: .now() + patience) { [weak self] in
            let late = self?.state.withLock { $0.connections.values.map(\.connection) } ?? []
            for connection in late { connection.abort() }
        }
        await withCheckedContinuation { continuation in
            let isEmpty = state.withLock { state in
                if !state.connections.isEmpty { state.stopped = continuation }
                return state.connections.isEmpty
            }
            if isEmpty { continuation.resume() }
        }
        log.finish()
    }
}
