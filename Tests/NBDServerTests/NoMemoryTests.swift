// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Logging
import Synchronization
import TestSupport
import Testing

@testable import NBDServer
@testable import ServerTestSupport

/// The system gives the server no memory, not even for the smallest buffer.
@Suite struct NoMemoryTests {
    /// A request, and how many bytes of payload it has.
    private static let cases: [(WireRequest, payload: Int)] = [
        (WireRequest(.write, cookie: 1, length: 100_000), 100_000),
        (WireRequest(.flush, cookie: 1), 0),
        (WireRequest(.blockStatus, cookie: 1, length: 4096), 0),
        (WireRequest(.read, cookie: 1, length: 512), 0),
        (WireRequest(.read, cookie: 1, length: 3 << 20), 0),
        // Is refused.
        (WireRequest(.read, cookie: 1, offset: 5 << 20, length: 1), 0),
    ]

    @Test(arguments: cases.indices)
    func `a client for which there is no memory is let go at once: it waits for nobody`(index: Int) throws {
        let (request, payload) = Self.cases[index]
        let isFull = Mutex(false)
        let pool = PayloadBufferPool(maximumBytes: 1 << 20) { capacity in
            isFull.withLock { $0 } ? nil : PayloadBuffer(capacity: capacity)
        }
        let lines = Mutex<[String]>([])
        let device = MemoryDevice([UInt8](repeating: 7, count: 4 << 20), isWritable: true)
        let loop = try EventLoop(index: 0, processors: SpareProcessors(total: 0), isDriven: true)
        let handler = LineHandler { line in lines.withLock { $0.append(line) } }
        try loop.queue.sync {
            let driven = try DrivenConnection(
                loop, [Export(name: "", description: "", device: device)], limits: ServerLimits(), buffers: pool,
                processors: 1,
                input: [0, 0, 0, 3] + WireOption.encoded(8)
                    + WireOption.encoded(10, WireOption.contexts("", ["base:allocation"]))
                    + WireOption.encoded(7, WireOption.info("")),
                log: Logger(label: "test") { _ in handler }
            ) { _ in 0 }
            driven.run()
            #expect(!driven.isEnded)
            isFull.withLock { $0 = true }
            // What is left in the pool is another client's.
            let other = PayloadShare(of: pool)
            var taken: [PayloadBuffer] = []
            while let buffer = other.takeSmallest() { taken.append(buffer) }
            let isAtRest = driven.say(request.encoded(.structured) + [UInt8](repeating: 1, count: payload))
            #expect(isAtRest)
            #expect(driven.isEnded)
            #expect(driven.workersBusy == 0)
            driven.end()
            for buffer in taken { other.put(buffer) }
        }
        #expect(
            lines.withLock { $0.last == "there is no memory for its request; connection closed" },
            "\(lines.withLock { $0 })")
    }

    @Test func `a client that waits for memory that its own requests have gets it from them`() throws {
        let pool = PayloadBufferPool(maximumBytes: 0)
        let device = MemoryDevice([UInt8](repeating: 7, count: 4 << 20), isWritable: true)
        let loop = try EventLoop(index: 0, processors: SpareProcessors(total: 0), isDriven: true)
        try loop.queue.sync {
            let driven = try DrivenConnection(
                loop, [Export(name: "", description: "", device: device)], limits: ServerLimits(), buffers: pool,
                processors: 1,
                input: [0, 0, 0, 3] + WireOption.encoded(7, WireOption.info(""))
            ) { _ in 0 }
            driven.run()
            let before = driven.output.count
            let payload = [UInt8](repeating: 1, count: 300_000)
            var requests: [UInt8] = []
            for cookie: UInt64 in 0..<4 {
                requests += WireRequest(.write, cookie: cookie, length: 300_000).encoded(.simple) + payload
                requests += WireRequest(.flush, cookie: 10 + cookie).encoded(.simple)
            }
            #expect(driven.say(requests))
            #expect(!driven.isEnded)
            #expect(driven.output.count - before == 8 * 16)
            driven.end()
        }
    }
}

/// Gives lines to whoever wants them.
private struct LineHandler: LogHandler {
    let take: @Sendable (String) -> Void
    var metadata = Logger.Metadata()
    var logLevel = Logger.Level.trace

    init(_ take: @escaping @Sendable (String) -> Void) { self.take = take }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { take("\(event.message)") }
}
