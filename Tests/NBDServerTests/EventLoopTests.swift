// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import NBDServer

@Suite struct EventLoopTests {
    private let loop: EventLoop
    private let processors = SpareProcessors(total: 2)

    init() throws { loop = try EventLoop(index: 0, processors: processors) }

    /// A watched socket, and the other end of it.
    private func pair() throws -> (socket: Socket, client: FileDescriptor) {
        var pair: [Int32] = [-1, -1]
        try #require(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        _ = fcntl(pair[1], F_SETFL, O_NONBLOCK)
        return (Socket(accepted: FileDescriptor(rawValue: pair[1])), FileDescriptor(rawValue: pair[0]))
    }

    /// Does `work` on the queue and waits for it.
    private func onLoop(_ work: @escaping @Sendable () -> Void) {
        let done = DispatchSemaphore(value: 0)
        loop.run {
            work()
            done.signal()
        }
        done.wait()
    }

    @Test func `work of many threads is done, each thread's in its order, while the loop lingers and sleeps`() {
        let seen = Mutex<[Int: [Int]]>([:])
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            for number in 0..<500 {
                loop.run { seen.withLock { $0[thread, default: []].append(number) } }
                // Long enough for the loop to go to sleep at times.
                if number % 50 == 0 { usleep(UInt32(number)) }
            }
        }
        onLoop {}
        for thread in 0..<4 { #expect(seen.withLock { $0[thread] } == Array(0..<500)) }
    }

    @Test func `bytes that are not received are told of again, and none are told of without interest`() throws {
        let (socket, client) = try pair()
        let calls = Atomic(0)
        let enough = DispatchSemaphore(value: 0)
        let watch = Watched()
        let loop = loop
        onLoop {
            let made = SocketWatch(
                socket, loop: loop,
                handler: Reader {
                    // Leaves the byte where it is.
                    if calls.add(1, ordering: .relaxed).newValue == 3 {
                        _ = watch.value.withLock { $0 }?.watch(reading: false, writing: false)
                        enough.signal()
                    }
                })
            watch.value.withLock { $0 = made }
            #expect(made.watch(reading: true, writing: false))
        }
        try client.writeAll([1])
        enough.wait()
        // A hang-up is told of whatever was asked for, unless epoll has forgotten the socket.
        try client.close()
        // The first turn that begins now asks epoll, and has ended when the second one begins.
        onLoop {}
        onLoop {}
        #expect(calls.load(ordering: .relaxed) == 3)
        onLoop {
            #expect(watch.value.withLock { $0 }?.watch(reading: true, writing: false) == true)
        }
        for _ in 0..<500 where calls.load(ordering: .relaxed) == 3 { usleep(10_000) }
        #expect(calls.load(ordering: .relaxed) > 3)
        onLoop { watch.value.withLock { $0 }?.cancel() }
    }

    @Test func `a cancelled watch has closed its socket, and tells nothing more`() throws {
        let (socket, client) = try pair()
        defer { try? client.close() }
        let calls = Atomic(0)
        let loop = loop
        onLoop {
            let watch = SocketWatch(socket, loop: loop, handler: Reader { calls.add(1, ordering: .relaxed) })
            _ = watch.watch(reading: true, writing: true)
            watch.cancel()
            watch.cancel()
            #expect(!watch.watch(reading: true, writing: false))
        }
        var byte: [UInt8] = [0]
        let received = unsafe recv(client.rawValue, &byte, 1, 0)
        #expect(received == 0)
        onLoop {}
        #expect(calls.load(ordering: .relaxed) == 0)
    }

    @Test func `timers have their turn however much there is to do`() {
        let isOver = Atomic(false)
        let fired = DispatchSemaphore(value: 0)
        let timer = DispatchSource.makeTimerSource(queue: loop.queue)
        timer.setEventHandler {
            isOver.store(true, ordering: .relaxed)
            fired.signal()
        }
        timer.schedule(deadline: .now() + .milliseconds(20))
        timer.resume()
        @Sendable func again() {
            if !isOver.load(ordering: .relaxed) { loop.run { again() } }
        }
        again()
        #expect(fired.wait(timeout: .now() + 30) == .success)
        timer.cancel()
    }

    @Test func `a loop counts as busy while it has something to do`() {
        #expect(processors.haveSpare)
        onLoop { [processors] in
            // One processor is the loop's.
            #expect(processors.haveSpare)
            #expect(processors.take())
            #expect(!processors.haveSpare)
            #expect(!processors.take())
            processors.leave()
        }
        // It goes to sleep soon; then both are free.
        var taken = 0
        for _ in 0..<500 where taken < 2 {
            if processors.take() { taken += 1 } else { usleep(10_000) }
        }
        #expect(taken == 2)
    }
}

/// A place for a watch that its own handler uses.
private final class Watched: Sendable {
    let value = Mutex<SocketWatch?>(nil)
}

/// Is told when its socket can be read, and does not read.
private final class Reader: SocketHandler {
    private let told: @Sendable () -> Void

    init(_ told: @escaping @Sendable () -> Void) { self.told = told }

    func readable(_ scratch: ScratchMemory) { told() }
    func writable() {}
    func lost() {}
}
