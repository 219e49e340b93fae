// SPDX-License-Identifier: Apache-2.0

import BlockIO

@testable import NBDServer

/// The client of an interleaved connection, and the network between.
final class InterleavedClient: ByteStream, @unchecked Sendable {
    weak var connection: InterleavedConnection?
    /// What the client says, in the parts that arrive together.
    var arrivals: [[UInt8]] = []
    /// What the server has said.
    var output: [UInt8] = []
    /// Who has sent which part of the output.
    private var sentPrint = Fingerprint()
    /// How many sends may still take nothing, or a half only.
    private var shortSends: Int
    /// The socket takes nothing.
    var isFull = false
    /// Nobody is there any more.
    var isGone = false
    /// The server has said that it will say no more.
    private var isEnded = false

    init(shortSends: Int) { self.shortSends = shortSends }

    let isTwoWay = true
    let hasPending = false
    /// Who has been told that the server says no more goes, too.
    var canReceive: Bool { !arrivals.isEmpty || isGone || isEnded }

    func receive(into buffer: inout MutableRawSpan) -> Socket.Progress {
        guard !isGone, !arrivals.isEmpty else {
            connection?.received(0)
            return isGone || isEnded ? .closed : .wouldBlock
        }
        let part = arrivals.removeFirst()
        part.withBytes { buffer.copy(from: $0) }
        connection?.received(part.count)
        return .bytes(part.count)
    }

    func send(_ bytes: RawSpan) -> Socket.Progress { connection?.send(bytes) ?? .closed }

    /// Takes bytes from somebody who has this history: all, none or half of them, as `choose` says.
    func take(_ bytes: RawSpan, _ history: Fingerprint, _ choose: (Int) -> Int) -> Socket.Progress {
        guard !isGone else { return .closed }
        guard !isFull else { return .wouldBlock }
        let half = bytes.byteCount / 2
        switch choose(shortSends == 0 ? 1 : half == 0 ? 2 : 3) {
        case 0: return take(bytes, history)
        case 1:
            shortSends -= 1
            isFull = true
            return .wouldBlock
        default:
            shortSends -= 1
            return take(bytes.extracting(first: half), history)
        }
    }

    private func take(_ bytes: RawSpan, _ history: Fingerprint) -> Socket.Progress {
        unsafe bytes.withUnsafeBytes { unsafe output.append(contentsOf: $0) }
        sentPrint.add(history)
        return .bytes(bytes.byteCount)
    }

    /// All that what comes depends on, but for what has been received.
    var state: Fingerprint {
        var state = sentPrint
        state.add(isFull ? 1 : 0)
        state.add(UInt64(shortSends))
        return state
    }

    func endSending() { isEnded = true }
}

/// The workers of an interleaved connection.
final class InterleavedWorkers: Workers, @unchecked Sendable {
    private weak var connection: InterleavedConnection?

    init(_ connection: InterleavedConnection) { self.connection = connection }

    func run(for owner: WorkOwner, dropped: @escaping @Sendable () -> Void, _ work: @escaping @Sendable () -> Void) {
        connection?.enqueue(WorkQueue.Job(run: work, dropped: dropped))
    }

    func drop(_ owner: WorkOwner) { connection?.dropWork() }
}
