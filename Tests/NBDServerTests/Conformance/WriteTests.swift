// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import NBDServer
import TestSupport
import Testing

/// NBD specification, `NBD_CMD_WRITE`, `NBD_CMD_WRITE_ZEROES`, `NBD_CMD_TRIM`, `NBD_CMD_FLUSH`, `NBD_CMD_CACHE`, "Ordering of
/// messages and writes".
@Suite struct WriteTests {
    private typealias Flag = WireRequest.Flag

    /// A failure does not print megabytes.
    private func isEqual(_ bytes: [UInt8], _ expected: [UInt8]) -> Bool { bytes == expected }

    private func range(_ offset: UInt64, _ length: UInt64) throws -> ByteRange {
        try #require(ByteRange(offset: offset, length: length))
    }

    @Test(arguments: WireMode.allCases, [17 << 20, 0])
    func `writes of all sizes arrive, whole and in their place`(mode: WireMode, memory: Int) throws {
        var expected = noise(6 << 20)
        let device = MemoryDevice(expected, isWritable: true)
        let client = try NBDTestClient(.serving(device) { $0.replyBytes = memory }, mode)
        // None overlaps another: their order is the server's choice.
        let writes: [(offset: Int, count: Int)] = [
            (0, 1), (511, 513), (1029, 65_536), (70_000, 65_537), (200_000, 1 << 20), (1_300_000, 1 << 20 + 1),
            (3 << 20, 3 << 20),
        ]
        for (index, write) in writes.enumerated() {
            let bytes = [UInt8](repeating: UInt8(index) &* 2 + 100, count: write.count)
            expected.replaceSubrange(write.offset..<(write.offset + write.count), with: bytes)
            client.send(.write(bytes, at: UInt64(write.offset), cookie: UInt64(index), mode))
        }
        for _ in writes { #expect(try client.reply().error == 0) }
        #expect(isEqual(device.bytes, expected))
        let pieces = device.calls.reduce(0) { sum, call in
            if case .write(_, let count, _) = call { sum + count } else { sum }
        }
        #expect(pieces == writes.reduce(0) { $0 + $1.count })
    }

    @Test(arguments: WireMode.allCases, [17 << 20, 0])
    func `no block of the preferred size is written in two parts`(mode: WireMode, memory: Int) throws {
        let device = MemoryDevice(noise(6 << 20), isWritable: true)
        let client = try NBDTestClient(.serving(device) { $0.replyBytes = memory }, mode)
        for (offset, count) in [(9, 3 << 20), (4096, 5 << 20), (4095, 2 << 20 + 2), (100, 200)] {
            let before = device.calls.count
            #expect(try client.ask(.write(noise(count), at: UInt64(offset), mode)).error == 0)
            var borders: Set<UInt64> = []
            for case .write(let start, let length, _) in device.calls[before...] {
                borders.formUnion([start, start + UInt64(length)])
            }
            borders.subtract([UInt64(offset), UInt64(offset + count)])
            #expect(borders.allSatisfy { $0.isMultiple(of: 4096) })
            #expect(borders.isEmpty == (count <= 1 << 20))
        }
    }

    @Test(arguments: WireMode.allCases)
    func `the longest write is served`(mode: WireMode) throws {
        let device = HugeDevice(size: 1 << 40, isWritable: true)
        let client = try NBDTestClient(.serving(device), mode)
        let request = WireRequest.write([UInt8](repeating: 5, count: 64 << 20), at: 77, mode)
        #expect(try client.ask(request).error == 0)
        let count = device.calls.reduce(0 as UInt64) { sum, call in
            if case .write(let range) = call { sum + range.length } else { sum }
        }
        #expect(count == 64 << 20)
    }

    @Test(arguments: WireMode.allCases)
    func `a write with FUA that is one piece goes down as that where it is large or goes far`(mode: WireMode) throws {
        for (count, lane) in [(1 << 16, nil), (4096, Lane(name: "far", width: 16))] {
            let device = MemoryDevice(noise(4 << 20), isWritable: true)
            let export = Export(name: "", description: "", device: device, lane: lane)
            let client = try NBDTestClient(.serving([export]), mode)
            let bytes = [UInt8](repeating: 5, count: count)
            #expect(try client.ask(.write(bytes, at: 9, flags: Flag.fua, mode)).error == 0)
            #expect(try client.ask(.write(bytes, at: 9, mode)).error == 0)
            #expect(
                device.calls == [.write(offset: 9, count: count, .durable), .write(offset: 9, count: count)])
        }
    }

    @Test(arguments: WireMode.allCases)
    func `small writes with FUA that come during a flush share the next one`(mode: WireMode) throws {
        let device = MemoryDevice(noise(1 << 20), isWritable: true)
        let client = try NBDTestClient(.serving(device), mode)
        for failure in [nil, BlockError.inputOutput("the disk is gone")] {
            let (hasBegun, mayEnd) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
            device.faults.flushGate = {
                hasBegun.signal()
                mayEnd.wait()
            }
            let before = device.calls.count
            let bytes = [UInt8](repeating: 5, count: 512)
            client.send(.write(bytes, at: 0, flags: Flag.fua, cookie: 0, mode))
            hasBegun.wait()
            for index: UInt64 in 1...10 {
                client.send(.write(bytes, at: index * 1000, flags: Flag.fua, cookie: index, mode))
            }
            // Who has this reply has been heard: the other replies wait for the disk.
            client.send(WireRequest(.read, offset: 3, length: 4).with(cookie: 99))
            let read = try client.reply()
            #expect(read.request.cookie == 99 && read.data == [5, 5, 5, 5])
            device.faults.flushGate = nil
            device.faults.flushFailure = failure
            mayEnd.signal()
            for _ in 0...10 {
                let reply = try client.reply()
                #expect(reply.error == (failure == nil || reply.request.cookie == 0 ? 0 : 5))
            }
            let calls = device.calls[before...]
            #expect(calls.filter { $0 == .flush }.count == (failure == nil ? 2 : 1))
            #expect(calls.count == 11 + (failure == nil ? 2 : 1))
        }
    }

    @Test(arguments: WireMode.allCases)
    func `a write with FUA is flushed after its last piece and before its reply`(mode: WireMode) throws {
        let device = MemoryDevice(noise(4 << 20), isWritable: true)
        let client = try NBDTestClient(.serving(device), mode)
        let request = WireRequest.write([UInt8](repeating: 5, count: 3 << 20), at: 9, flags: Flag.fua, mode)
        #expect(try client.ask(request).error == 0)
        let calls = device.calls
        #expect(calls.count > 1)
        #expect(calls.filter { $0 == .flush }.count == 1)
        #expect(calls.last == .flush)
    }

    @Test(arguments: WireMode.allCases)
    func `TRIM and WRITE_ZEROES do what their flags say`(mode: WireMode) throws {
        let device = MemoryDevice(noise(100_000), isWritable: true)
        let client = try NBDTestClient(.serving(device), mode)
        let range = try range(5, 90_000)
        let cases: [(WireRequest.Command, UInt16, [MemoryDevice.Call])] = [
            (.trim, 0, [.discard(range)]), (.trim, Flag.fua, [.discard(range), .flush]),
            (.writeZeroes, 0, [.zero(range, .mayDiscard)]), (.writeZeroes, Flag.noHole, [.zero(range, [])]),
            (.writeZeroes, Flag.fastZero, [.zero(range, [.mayDiscard, .fastOnly])]),
            (.writeZeroes, Flag.noHole | Flag.fastZero | Flag.fua, [.zero(range, [.fastOnly, .durable])]),
        ]
        var calls: [MemoryDevice.Call] = []
        for (command, flags, expected) in cases {
            #expect(try client.ask(WireRequest(command, flags: flags, offset: 5, length: 90_000)).error == 0)
            calls += expected
            #expect(device.calls == calls)
        }
        #expect(
            try client.ask(WireRequest(.read, offset: 5, length: 90_000)).data == [UInt8](repeating: 0, count: 90_000))
    }

    @Test(arguments: WireMode.allCases)
    func `FAST_ZERO is ENOTSUP where nothing is faster, and only then`(mode: WireMode) throws {
        let device = MemoryDevice(noise(4096), isWritable: true)
        device.faults.hasNoFastZeros = true
        let client = try NBDTestClient(.serving(device), mode)
        #expect(try client.ask(WireRequest(.writeZeroes, flags: Flag.fastZero, length: 4096)).error == 95)
        #expect(isEqual(device.bytes, noise(4096)))
        #expect(try client.ask(WireRequest(.writeZeroes, length: 4096)).error == 0)
        #expect(isEqual(device.bytes, [UInt8](repeating: 0, count: 4096)))
    }

    @Test(arguments: WireMode.allCases)
    func `CACHE prefetches, 256 MiB at most`(mode: WireMode) throws {
        let device = HugeDevice(size: 1 << 40)
        let client = try NBDTestClient(.serving(device), mode)
        #expect(try client.ask(WireRequest(.cache, offset: 5, length: 1000)).error == 0)
        #expect(try client.ask(WireRequest(.cache, offset: 1 << 30, length: 0xFFFF_FFFF)).error == 0)
        #expect(device.calls == [.prefetch(try range(5, 1000)), .prefetch(try range(1 << 30, 256 << 20))])
    }

    @Test(arguments: WireMode.allCases)
    func `a flush reaches a writable device, and a read-only one needs none`(mode: WireMode) throws {
        for isWritable in [true, false] {
            let device = MemoryDevice(noise(10), isWritable: isWritable)
            let client = try NBDTestClient(.serving(device), mode)
            #expect(try client.ask(WireRequest(.flush)).error == 0)
            #expect(device.calls == (isWritable ? [.flush] : []))
        }
    }

    @Test(
        arguments: WireMode.allCases,
        [(BlockError.noSpace("the disk is full"), 28), (.inputOutput("the disk is broken"), 5)]
            as [(BlockError, UInt32)])
    func `a change that fails has its error, and the connection goes on`(
        mode: WireMode, failure: (BlockError, UInt32)
    ) throws {
        let device = MemoryDevice(noise(4 << 20), isWritable: true)
        let client = try NBDTestClient(.serving(device), mode)
        device.faults.changeFailure = failure.0
        let requests: [WireRequest] = [
            .write([1, 2, 3], at: 5, mode), .write([UInt8](repeating: 1, count: 3 << 20), at: 5, mode),
            WireRequest(.writeZeroes, offset: 5, length: 10), WireRequest(.trim, offset: 5, length: 10),
            WireRequest(.flush), .write([1, 2, 3], at: 5, flags: Flag.fua, mode),
        ]
        for request in requests {
            let reply = try client.ask(request)
            #expect(reply.error == failure.1)
            guard mode != .simple else { continue }
            #expect(reply.sentence == failure.0.description)
            #expect(reply.errorOffset == (request.command == .flush ? nil : 5))
        }
        device.faults.changeFailure = nil
        #expect(try client.ask(WireRequest(.read, length: 100)).data == noise(100))
        #expect(try client.ask(.write([9], at: 0, mode)).error == 0)
        #expect(device.bytes[0] == 9)
    }

    @Test(arguments: WireMode.allCases)
    func `requests behind a long write that fails are served`(mode: WireMode) throws {
        let device = MemoryDevice(noise(4 << 20), isWritable: true)
        device.faults.changeFailure = .noSpace("the disk is full")
        let client = try NBDTestClient(.serving(device), mode)
        client.send(.write([UInt8](repeating: 1, count: 3 << 20), at: 0, cookie: 1, mode))
        for cookie: UInt64 in 2..<20 { client.send(WireRequest(.read, cookie: cookie, offset: cookie, length: 5)) }
        for _ in 1..<20 {
            let reply = try client.reply()
            #expect(reply.error == (reply.request.cookie == 1 ? 28 : 0))
        }
    }

    @Test(arguments: WireMode.allCases)
    func `a client that vanishes in the middle of a payload harms nobody`(mode: WireMode) async throws {
        let device = MemoryDevice(noise(8 << 20), isWritable: true)
        let server = try Server.serving(device)
        for count in [0, 1, 70_000, 1 << 20, 3 << 20] {
            for _ in 0..<5 {
                let client = try NBDTestClient(server, mode)
                var request = WireRequest.write([UInt8](repeating: 3, count: count), at: 0, mode)
                request.length = 4 << 20
                client.wire.send(request.encoded(mode))
                client.wire.close()
            }
        }
        for _ in 0..<500 where server.connectionCount > 0 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(server.connectionCount == 0)
        let client = try NBDTestClient(server, mode)
        #expect(try client.ask(.write([UInt8](repeating: 4, count: 8 << 20), at: 0, mode)).error == 0)
        #expect(isEqual(device.bytes, [UInt8](repeating: 4, count: 8 << 20)))
    }

    @Test(arguments: WireMode.allCases)
    func `writers that stop in the middle of a payload do not keep others from being served`(mode: WireMode) throws {
        let device = MemoryDevice(noise(8 << 20), isWritable: true)
        let server = try Server.serving(device)
        let idle = try (0..<40).map { _ in
            let client = try NBDTestClient(server, mode)
            var request = WireRequest.write([UInt8](repeating: 3, count: 5), at: 0, mode)
            request.length = 4 << 20
            client.wire.send(request.encoded(mode))
            return client
        }
        let client = try NBDTestClient(server, mode)
        #expect(try client.ask(WireRequest(.read, offset: 0, length: 8 << 20)).data == noise(8 << 20))
        #expect(try client.ask(.write([UInt8](repeating: 4, count: 4 << 20), at: 4 << 20, mode)).error == 0)
        #expect(idle.count == 40)
    }

    @Test(arguments: WireMode.allCases)
    func `what one connection has written and flushed the others see`(mode: WireMode) throws {
        let server = try Server.serving(MemoryDevice(noise(4096), isWritable: true))
        let first = try NBDTestClient(server, mode)
        let second = try NBDTestClient(server, mode)
        #expect(try first.ask(.write([1, 2, 3, 4], at: 100, mode)).error == 0)
        #expect(try first.ask(WireRequest(.flush)).error == 0)
        #expect(try second.ask(WireRequest(.read, offset: 100, length: 4)).data == [1, 2, 3, 4])
    }

    @Test(arguments: WireMode.allCases)
    func `many commands at once all have their reply`(mode: WireMode) throws {
        let device = MemoryDevice(noise(1 << 20), isWritable: true)
        device.faults.nothingIsCached = true
        let client = try NBDTestClient(
            .serving(device), mode, contexts: mode == .simple ? [] : ["base:allocation", "qemu:allocation-depth"])
        var cookie: UInt64 = 0
        func send(_ request: WireRequest) {
            client.send(request.with(cookie: cookie))
            cookie += 1
        }
        for index: UInt64 in 0..<60 {
            send(WireRequest(.read, offset: index * 1000, length: 3000))
            send(.write([UInt8](repeating: 1, count: 5000), at: index * 5000, mode))
            send(WireRequest(.flush))
            send(WireRequest(.trim, offset: index, length: 1))
            send(WireRequest(.cache, offset: index, length: 100_000))
            send(WireRequest(.writeZeroes, flags: Flag.fua, offset: index, length: 77))
            if mode != .simple { send(WireRequest(.blockStatus, offset: index, length: 100_000)) }
        }
        for _ in 0..<cookie { #expect(try client.reply().error == 0) }
    }
}
