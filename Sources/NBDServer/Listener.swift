// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Synchronization
import SystemPackage

/// Accepts clients of one listening socket and hands them on.
///
/// Everything happens on the listener's queue.
final class Listener: @unchecked Sendable {
    private let socket: ListeningSocket
    private let accept: @Sendable () -> Result<FileDescriptor, Errno>
    private let makeRoom: @Sendable () -> Bool
    private let accepted: @Sendable (FileDescriptor) -> Void
    private let queue = DispatchQueue(label: "nbdecrypt.listener")
    private let source: any DispatchSourceRead
    /// Given up for a moment when there is no other descriptor, so that the next client can be seen off at least; nil while
    /// there is none.
    private var spare: FileDescriptor?
    /// It gives others time to go before it accepts again.
    private let isResting = Atomic(false)
    /// Clients accepted in a row before other work of the queue has its turn.
    private static let burst = 64

    /// Starts at once.
    ///
    /// - Parameters:
    ///   - accept: gives the next client; nil: the socket does.
    ///   - makeRoom: asked on the listener's queue when the process has no descriptor left. True when somebody is about to
    ///     give up his, in favour of the client that waits.
    ///   - accepted: gets a non-blocking descriptor and its ownership, on the listener's queue.
    init(
        _ socket: ListeningSocket, accept: (@Sendable () -> Result<FileDescriptor, Errno>)? = nil,
        makeRoom: @escaping @Sendable () -> Bool, accepted: @escaping @Sendable (FileDescriptor) -> Void
    ) {
        self.socket = socket
        self.accept = accept ?? { socket.accept() }
        self.makeRoom = makeRoom
        self.accepted = accepted
        self.source = DispatchSource.makeReadSource(fileDescriptor: socket.descriptor.rawValue, queue: queue)
        self.spare = Self.makeSpare()
        source.setEventHandler { [unowned self] in acceptBurst() }
        source.setCancelHandler { socket.close() }
        source.resume()
    }

    deinit { try? spare?.close() }

    /// Does it accept nobody for a moment? Any thread may ask.
    var isPaused: Bool { isResting.load(ordering: .relaxed) }

    /// Stops accepting and closes the socket.
    func stop() { queue.async { self.source.cancel() } }

    private static func makeSpare() -> FileDescriptor? {
        try? FileDescriptor.open(FilePath("/dev/null"), .readOnly, options: .closeOnExec)
    }

    private func acceptBurst() {
        for _ in 0..<Self.burst {
            switch accept() {
            case .success(let client): accepted(client)
            case .failure(.wouldBlock): return
            case .failure(.connectionAbort), .failure(.interrupted): continue
            case .failure(let error):
                if error == .tooManyOpenFiles || error == .tooManyOpenFilesInSystem {
                    switch acceptWithSpare() {
                    case .client: continue
                    case .nobody: return
                    case .nothing: break
                    }
                }
                // The system is short of memory, or somebody else was quicker. The client stays in the queue and the source
                // would fire again at once: give others time to go.
                source.suspend()
                isResting.store(true, ordering: .relaxed)
                queue.asyncAfter(deadline: .now() + .milliseconds(100)) { [self] in
                    isResting.store(false, ordering: .relaxed)
                    source.resume()
                }
                return
            }
        }
    }

    private enum LastResort {
        case client
        /// Nobody waits.
        case nobody
        /// There was no spare descriptor, or another one took it.
        case nothing
    }

    /// Takes the next client in place of the spare descriptor: to serve it when somebody makes room, else to hang up at once, so
    /// that it knows.
    private func acceptWithSpare() -> LastResort {
        guard let spare = spare ?? Self.makeSpare() else {
            _ = makeRoom()
            return .nothing
        }
        try? spare.close()
        self.spare = nil
        defer { self.spare = Self.makeSpare() }
        switch accept() {
        case .success(let client):
            if makeRoom() { accepted(client) } else { try? client.close() }
            return .client
        // The system says that there is no descriptor before it looks whether anybody waits.
        case .failure(let error): return error == .wouldBlock ? .nobody : .nothing
        }
    }
}
