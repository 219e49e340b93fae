// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A source far away that has its latency in the time of a ``VirtualClock``, and goes wrong when told to.
///
/// What it holds is a device; reads and changes reach that when they are answered. The same seed gives the same latencies,
/// whichever thread asks first.
public final class SimulatedSource: AsyncSource {
    /// How long answers take, and what they are like.
    public struct Behaviour: Sendable {
        /// Of each answer.
        public var latency = Duration.milliseconds(20)
        /// At most so much comes on top: answers overtake each other.
        public var jitter = Duration.zero
        /// Decides what comes on top.
        public var seed: UInt64 = 1
        /// No answer is about more bytes.
        public var longestAnswer = Int.max
        /// How many extents an answer has at most.
        public var mostExtents = 64
        /// Does each answer say which source this is?
        public var tellsIdentity = true
        /// Are all requests refused, the connection being lost?
        public var isDisconnected = false
        /// What becomes of a request instead; nil: nothing special.
        public var fault: (@Sendable (SourceOperation) -> Fault?)?

        /// As it should be.
        public init() {}
    }

    /// What becomes of a request.
    public enum Fault: Sendable {
        /// It fails, as late as it would have been answered.
        case failure(BlockError)
        /// It is carried out, and answered, when ``SimulatedSource/answerHeld()`` is called.
        case held
        /// It is answered for so many bytes, whatever was asked.
        case count(Int)
        /// It is answered twice.
        case twice
    }

    /// What has been asked so far.
    public struct Counts: Sendable {
        /// Of all operations, in the order in which they began.
        public var operations: [SourceOperation] = []
        /// Requests that the source has.
        public var underWay = 0
        /// The most that it ever had.
        public var mostUnderWay = 0
        /// Those that somebody has given up.
        public var abandoned = 0
    }

    private struct State {
        var behaviour = Behaviour()
        var counts = Counts()
        var version = 1
        var held: [SourceRequest] = []
    }

    /// That of what it holds when it was made.
    public let size: UInt64
    /// As given to `init`.
    public let alignment: Int
    /// As what it holds.
    public let isWritable: Bool
    /// It does.
    public let tellsExtents = true
    /// As given to `init`.
    public let depth: Int
    private let contents: any BlockDevice
    private let place: String
    private let clock: VirtualClock?
    private let state = Locked(State())

    /// A source that holds `contents`, which answers at once.
    ///
    /// - Parameters:
    ///   - place: by which it is the same as others, or not.
    ///   - clock: nil: there is no latency, and requests are answered by the thread that makes them.
    public init(
        _ contents: any BlockDevice, place: String = "sim://host/disk", clock: VirtualClock?, depth: Int = 64,
        alignment: Int = 1
    ) {
        self.contents = contents
        self.place = place
        self.clock = clock
        self.depth = depth
        self.alignment = alignment
        size = contents.size
        isWritable = contents.isWritable
    }

    /// Which source and which version of it this is now.
    public var identity: SourceIdentity {
        .remote(place: place, version: String(state.withLock { $0.version }))
    }

    /// Can be changed at any time.
    public var behaviour: Behaviour {
        get { state.withLock { $0.behaviour } }
        set { state.withLock { $0.behaviour = newValue } }
    }

    /// What has been asked so far.
    public var counts: Counts { state.withLock { $0.counts } }

    /// Makes it another version, whatever it holds.
    public func replace() { state.withLock { $0.version += 1 } }

    /// Carries out and answers all requests that were held; returns when that is done.
    public func answerHeld() {
        let held = state.withLock { state in
            let held = state.held
            state.held = []
            return held
        }
        for request in held { answer(request, count: nil) }
    }

    /// Begins the latency.
    public func begin(_ request: SourceRequest) {
        let behaviour = state.withLock { state in
            state.counts.operations.append(request.operation)
            state.counts.underWay += 1
            state.counts.mostUnderWay = max(state.counts.mostUnderWay, state.counts.underWay)
            return state.behaviour
        }
        let fault = behaviour.fault?(request.operation)
        if case .held = fault { return state.withLock { $0.held.append(request) } }
        after(latency(request, behaviour)) { [self] in
            switch fault {
            case .failure(let error): end(request) { $0.fail(error) }
            case .count(let count): end(request) { $0.complete(SourceAnswer(byteCount: count)) }
            case .twice:
                answer(request, count: nil)
                request.fail(.inputOutput("a second answer"))
            case .held, nil: answer(request, count: behaviour.longestAnswer)
            }
        }
    }

    /// Only counted.
    public func abandon(_ request: SourceRequest) { state.withLock { $0.counts.abandoned += 1 } }

    private func after(_ latency: Duration, _ body: @escaping @Sendable () -> Void) {
        if let clock { clock.after(latency, body) } else { body() }
    }

    private func latency(_ request: SourceRequest, _ behaviour: Behaviour) -> Duration {
        guard behaviour.jitter > .zero else { return behaviour.latency }
        var random = SeededGenerator(seed: behaviour.seed &+ request.operation.range.offset)
        return behaviour.latency + behaviour.jitter * (Double(random.next() % 1024) / 1024)
    }

    private func end(_ request: SourceRequest, _ body: (SourceRequest) -> Void) {
        state.withLock { $0.counts.underWay -= 1 }
        body(request)
    }

    /// - Parameter count: how many bytes at most; nil: all.
    private func answer(_ request: SourceRequest, count: Int?) {
        let behaviour = behaviour
        if behaviour.isDisconnected { return end(request) { $0.fail(.disconnected("sim: the connection is lost")) } }
        let length = min(count ?? .max, request.place.count)
        do throws(BlockError) {
            let extents = try carryOut(request, length, behaviour)
            let answer = SourceAnswer(
                byteCount: length, identity: behaviour.tellsIdentity ? identity : nil, extents: extents)
            end(request) { $0.complete(answer) }
        } catch {
            end(request) { $0.fail(error) }
        }
    }

    /// - Parameter length: of a read or a write: how many bytes of it.
    private func carryOut(
        _ request: SourceRequest, _ length: Int, _ behaviour: Behaviour
    ) throws(BlockError) -> [Extent] {
        let place = request.place.lowerBound..<request.place.lowerBound + length
        switch request.operation {
        case .read(let range):
            try request.memory.withMutableBytes { (memory) throws(BlockError) in
                try memory.withSlice(place) { (part) throws(BlockError) in
                    try contents.read(into: &part, at: range.offset, .mayBlock)
                }
            }
        case .write(let range, let options):
            var bytes = request.memory.withBytes { [UInt8](copying: $0.extracting(place)) }
            try bytes.withMutableBytes { (bytes) throws(BlockError) in
                try contents.write(&bytes, at: range.offset, options)
            }
        case .zero(let range, let options): try contents.zero(range, options)
        case .discard(let range): try contents.discard(range)
        case .flush: try contents.flush()
        case .extents(let range):
            var extents: [Extent] = []
            var position = range.offset
            while position < range.end, extents.count < behaviour.mostExtents {
                extents.append(try contents.extent(at: position, limit: range.end - position))
                position += extents.last?.length ?? 0
            }
            return extents
        case .grow(let size):
            guard let contents = contents as? any GrowableDevice else { throw .noSpace("sim: it cannot grow") }
            try contents.grow(to: size)
        }
        return []
    }
}
