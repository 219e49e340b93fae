// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CLinux
import Dispatch
import Synchronization
import SystemPackage

/// A serial queue that serves many connections: it is told what their sockets are ready for by epoll(7), and Dispatch
/// watches the epoll descriptor.
///
/// Everything a connection does, but for what its workers read and send, happens on its loop's queue. After an event the loop
/// asks epoll itself for the next ones, for a moment longer than there are any, before it goes back to Dispatch, which
/// takes two changes of threads to tell it of something.
final class EventLoop: @unchecked Sendable {
    /// Where everything happens; timers of connections have it as well.
    let queue: DispatchQueue
    private let source: any DispatchSourceRead
    /// Of epoll.
    private let descriptor: FileDescriptor
    private let processors: SpareProcessors
    /// What a request may look up here and now; for one at a time.
    private let budget = Budget(looks: 0)
    /// Requests that touch more places than this are left to workers.
    static let looksPerRequest = 256
    /// For whichever connection receives. Used on the queue.
    let scratch = ScratchMemory()

    /// Confined to the queue, as what follows, up to the mailbox.
    private var epoll: Epoll
    /// By descriptor.
    private var watches: [Int32: SocketWatch] = [:]
    private var isDispatchWatching = true
    /// Did the last pause end soon? Then the next one may, too.
    private var isPauseShort = false
    /// What work has left to be done after all of it.
    private var afterWork: [@Sendable () -> Void] = []
    /// When the last pause began, in nanoseconds.
    private var pauseStart: UInt64 = 0

    /// For others to see, as what follows: what it is doing, since when, in nanoseconds, and how often it has begun.
    private let activity = Atomic(Activity.asleep)
    private let activitySince = Atomic<UInt64>(0)
    private let turnCount = Atomic(0)

    private let mailbox = Locked<[@Sendable () -> Void]>([])
    private let mailCount = Atomic(0)
    /// A turn is being taken, or is queued.
    private let isAwake: Atomic<Bool>

    /// What a loop is doing.
    enum Activity: UInt8, AtomicRepresentable {
        /// Dispatch watches the epoll descriptor.
        case asleep
        /// It takes a turn, or one is queued.
        case awake
        /// It is awake, has found nothing to do, and looks again.
        case lingering
    }

    /// How long to ask for events when there are none, in nanoseconds: as long as a client on the same machine takes to
    /// come back with its next request.
    private static let linger: UInt64 = 50_000
    /// A pause that was shorter than this, Dispatch's part included, was worth lingering for.
    private static let shortPause: UInt64 = 150_000
    /// When giving way takes longer than this, others need the processor.
    private static let contention: UInt64 = 15_000
    /// Rounds in a row, and nanoseconds, before timers on the queue have their turn.
    private static let roundsPerTurn = 64
    private static let longestTurn: UInt64 = 10_000_000

    /// - Parameter isDriven: it takes no turns by itself: a test calls ``step()``, and says itself what sockets are ready for.
    /// - Throws: `Errno` when the system has no descriptor left.
    init(index: Int, processors: SpareProcessors, isDriven: Bool = false) throws(Errno) {
        epoll = try Epoll()
        self.processors = processors
        isAwake = Atomic(isDriven)
        let queue = DispatchQueue(label: "nbdecrypt.loop.\(index)")
        self.queue = queue
        let descriptor = epoll.descriptor
        self.descriptor = descriptor
        source = DispatchSource.makeReadSource(fileDescriptor: descriptor.rawValue, queue: queue)
        source.setCancelHandler { try? descriptor.close() }
        source.setEventHandler { [weak self] in self?.woken() }
        if isDriven { isDispatchWatching = false } else { source.resume() }
    }

    deinit {
        // Releasing a suspended source is a trap.
        if !isDispatchWatching { source.resume() }
        source.cancel()
    }

    // MARK: Work from other threads

    /// Does `work` soon, on the queue, in the order of the calls. Called on any thread.
    func run(_ work: @escaping @Sendable () -> Void) {
        mailbox.withLock { mail in
            mail.append(work)
            mailCount.store(mail.count, ordering: .sequentiallyConsistent)
        }
        guard !isAwake.exchange(true, ordering: .sequentiallyConsistent) else { return }
        queue.async { [self] in turn() }
    }

    /// Does work wait? A connection that has much to do lets it come first.
    var hasWork: Bool { workCount > 0 }

    /// How many pieces of work wait.
    var workCount: Int { mailCount.load(ordering: .relaxed) }

    private func takeMail() -> Bool {
        guard hasWork else { return false }
        let mail = mailbox.withLock { mail in
            defer { mail = [] }
            mailCount.store(0, ordering: .sequentiallyConsistent)
            return mail
        }
        for work in mail { work() }
        finishWork()
        return !mail.isEmpty
    }

    /// Does `work` once when all work that waits has been taken. Called by such work, on the queue.
    func runAfterWork(_ work: @escaping @Sendable () -> Void) { afterWork.append(work) }

    private func finishWork() {
        let finishing = afterWork
        afterWork = []
        for work in finishing { work() }
    }

    /// Does the first piece of work that waits; for a loop that is driven. Called on the queue.
    /// - Returns: false when there is none.
    func step() -> Bool {
        let work: (@Sendable () -> Void)? = mailbox.withLock { mail in
            guard !mail.isEmpty else { return nil }
            mailCount.store(mail.count - 1, ordering: .sequentiallyConsistent)
            return mail.removeFirst()
        }
        work?()
        finishWork()
        return work != nil
    }

    // MARK: Sockets

    /// Tells `watch` from now on what the socket is ready for. Called on the queue.
    /// - Returns: false when the system has no room for it.
    func watch(_ descriptor: FileDescriptor, _ watch: SocketWatch, reading: Bool, writing: Bool) -> Bool {
        let isNew = watches.updateValue(watch, forKey: descriptor.rawValue) == nil
        return epoll.watch(descriptor, isNew: isNew, reading: reading, writing: writing)
    }

    /// Tells nothing more. Called on the queue.
    func forget(_ descriptor: FileDescriptor) {
        // Without interest it has to go: a hang-up would be told again and again.
        if watches.removeValue(forKey: descriptor.rawValue) != nil { epoll.forget(descriptor) }
    }

    /// For a request that is served at once. Called on the queue.
    var readMode: ReadMode {
        budget.refill(Self.looksPerRequest)
        return .cachedOnly(budget)
    }

    // MARK: Turns

    private func woken() {
        isAwake.store(true, ordering: .sequentiallyConsistent)
        isPauseShort = Self.now - pauseStart < Self.shortPause
        turn()
    }

    /// Serves what there is, until nothing has come for a moment, or others on the queue have their turn.
    private func turn() {
        if isDispatchWatching {
            isDispatchWatching = false
            source.suspend()
            processors.enter()
        }
        let start = Self.now
        show(.awake, since: start)
        turnCount.add(1, ordering: .relaxed)
        for _ in 0..<Self.roundsPerTurn where Self.now - start < Self.longestTurn {
            let hadMail = takeMail()
            guard takeEvents() || hadMail || lingers() else { return pause() }
        }
        queue.async { [self] in turn() }
    }

    /// Goes back to Dispatch.
    private func pause() {
        isAwake.store(false, ordering: .sequentiallyConsistent)
        if mailCount.load(ordering: .sequentiallyConsistent) > 0 {
            // Who put it there may have seen a loop that was awake.
            if !isAwake.exchange(true, ordering: .sequentiallyConsistent) { queue.async { [self] in turn() } }
            return
        }
        pauseStart = Self.now
        show(.asleep, since: pauseStart)
        processors.leave()
        isDispatchWatching = true
        source.resume()
    }

    /// Hands out what sockets are ready for.
    private func takeEvents() -> Bool {
        let count = epoll.take()
        // It may have lingered until now.
        if count > 0 { activity.store(.awake, ordering: .relaxed) }
        for index in 0..<count {
            let event = epoll.ready[index]
            guard let watch = watches[event.descriptor] else { continue }
            // A hang-up counts as both.
            if event.can_read, watch.isReading { watch.handler?.readable(scratch) }
            if event.can_write, watch.isWriting { watch.handler?.writable() }
        }
        return count > 0
    }

    /// Waits for events or work without giving the thread back, but giving way to others that need the processor.
    /// - Returns: true when there is something.
    private func lingers() -> Bool {
        guard isPauseShort, processors.haveSpare else { return false }
        let start = Self.now
        var last = start
        activity.store(.lingering, ordering: .relaxed)
        defer { activity.store(.awake, ordering: .relaxed) }
        repeat {
            Self.giveWay()
            if hasWork || takeEvents() { return true }
            let now = Self.now
            if now - last > Self.contention { break }
            last = now
        } while last - start < Self.linger
        isPauseShort = false
        return false
    }

    private func show(_ activity: Activity, since start: UInt64) {
        self.activity.store(activity, ordering: .relaxed)
        activitySince.store(start, ordering: .relaxed)
    }

    /// What it is doing, for the log. Any thread may ask, also while the loop hangs.
    var report: String {
        let (mail, hasEvents) = (mailCount.load(ordering: .relaxed), Epoll.hasEvents(descriptor))
        let since = activitySince.load(ordering: .relaxed)
        let milliseconds = since == 0 ? 0 : (max(Self.now, since) - since) / 1_000_000
        return """
            \(activity.load(ordering: .relaxed)) for \(milliseconds) ms, turn \(turnCount.load(ordering: .relaxed)); \
            \(mail) pieces of work wait, \(hasEvents ? "sockets are ready" : "no socket is ready")
            """
    }

    /// Lets other threads have this processor that wait for it.
    static func giveWay() { linux_yield() }

    private static var now: UInt64 { DispatchTime.now().uptimeNanoseconds }
}
