// SPDX-License-Identifier: Apache-2.0

import BlockIO
import NBDServer
import TestSupport
import Testing

/// NBD specification, "Request message", "Request types", "Error values": what a request may be, and what becomes of wrong
/// ones. After each of them the connection goes on, unless a test says otherwise.
@Suite struct RequestTests {
    private static let size: UInt64 = 1 << 20
    private typealias Flag = WireRequest.Flag

    private func client(
        _ mode: WireMode, isWritable: Bool = true, alignment: Int = 1, contexts: [String] = ["base:allocation"]
    ) throws -> NBDTestClient {
        let device = MemoryDevice(noise(Int(Self.size)), alignment: alignment, isWritable: isWritable)
        return try NBDTestClient(.serving(device), mode, contexts: mode == .simple ? [] : contexts)
    }

    /// Every command that has a range, with a range.
    private func ranged(_ mode: WireMode, _ offset: UInt64, _ length: UInt64) -> [WireRequest] {
        let commands: [WireRequest.Command] =
            [.read, .trim, .cache, .writeZeroes] + (mode == .simple ? [] : [.blockStatus])
        return commands.map { WireRequest($0, offset: offset, length: length) }
            + [.write([UInt8](repeating: 1, count: Int(min(length, 1 << 20))), at: offset, mode)]
    }

    @Test(arguments: WireMode.allCases)
    func `beyond the end reads are EINVAL and writes are ENOSPC`(mode: WireMode) throws {
        let client = try client(mode)
        let ranges: [(UInt64, UInt64)] = [
            (Self.size, 1), (Self.size - 1, 2), (Self.size + 1, 0), (.max, 1), (.max - 511, 512), (1 << 63, 512),
        ]
        for (offset, length) in ranges {
            for request in ranged(mode, offset, length) where length > 0 || request.command != .blockStatus {
                let isWrite = request.command == .write || request.command == .writeZeroes
                #expect(try client.ask(request).error == (isWrite ? 28 : 22), "\(request.type) \(offset) \(length)")
            }
        }
        #expect(try client.isAlive())
    }

    @Test(arguments: WireMode.allCases, [512, 4096])
    func `unaligned requests are EINVAL where the export has a block size`(mode: WireMode, alignment: Int) throws {
        let client = try client(mode, alignment: alignment)
        let unit = UInt64(alignment)
        for (offset, length) in [(1, unit), (0, unit - 1), (unit, unit + 1), (unit / 2, unit / 2), (0, 1)] {
            for request in ranged(mode, offset, length) { #expect(try client.ask(request).error == 22) }
        }
        for request in ranged(mode, unit, unit) { #expect(try client.ask(request).error == 0) }
        #expect(try client.isAlive())
    }

    @Test(arguments: WireMode.allCases)
    func `every place is good where the export has no block size`(mode: WireMode) throws {
        let client = try client(mode)
        for request in ranged(mode, 3, 5) { #expect(try client.ask(request).error == 0) }
    }

    @Test(arguments: WireMode.allCases)
    func `an unknown command is EINVAL`(mode: WireMode) throws {
        let client = try client(mode)
        for type: UInt16 in [8, 9, 77, 0x7FFF, 0xFFFF] {
            #expect(try client.ask(WireRequest(type: type, length: 512)).error == 22)
        }
        #expect(try client.isAlive())
    }

    @Test(arguments: WireMode.allCases)
    func `a flag that does not belong to the command is EINVAL`(mode: WireMode) throws {
        let client = try client(mode)
        let good: [WireRequest.Command: UInt16] = [
            .read: Flag.fua | (mode == .simple ? 0 : Flag.dontFragment),
            .write: Flag.fua | (mode == .extended ? Flag.payloadLength : 0),
            .flush: Flag.fua, .trim: Flag.fua, .cache: Flag.fua,
            .writeZeroes: Flag.fua | Flag.noHole | Flag.fastZero, .blockStatus: Flag.fua | Flag.requestOne,
        ]
        for command in WireRequest.Command.allCases where command != .disconnect {
            if mode == .simple, command == .blockStatus { continue }
            for bit in 0..<16 as Range<UInt16> {
                let flag: UInt16 = 1 << bit
                // Where it belongs to a payload, that is a test of its own.
                if mode == .extended, flag == Flag.payloadLength { continue }
                let length: UInt64 = command == .flush ? 0 : 16
                let request =
                    command == .write
                    ? WireRequest.write([UInt8](repeating: 7, count: 16), at: 0, flags: flag, mode)
                    : WireRequest(command, flags: flag, length: length)
                let isGood = try #require(good[command]) & flag != 0
                #expect(try client.ask(request).error == (isGood ? 0 : 22), "\(command) \(flag)")
            }
        }
    }

    @Test(arguments: WireMode.allCases)
    func `FUA on a read is good where FUA is offered and EINVAL where it is not`(mode: WireMode) throws {
        for isWritable in [true, false] {
            let client = try client(mode, isWritable: isWritable)
            #expect((client.flags & 8 != 0) == isWritable)
            #expect(try client.ask(WireRequest(.read, flags: Flag.fua, length: 16)).error == (isWritable ? 0 : 22))
        }
    }

    @Test(arguments: WireMode.allCases, [true, false])
    func `requests of zero bytes do nothing, successfully`(mode: WireMode, isWritable: Bool) throws {
        let device = MemoryDevice(noise(1000), isWritable: isWritable)
        let client = try NBDTestClient(.serving(device), mode, contexts: mode == .simple ? [] : ["base:allocation"])
        for offset: UInt64 in [0, 500, 1000] {
            for request in ranged(mode, offset, 0) {
                let isChange = [.write, .trim, .writeZeroes].contains(request.command)
                let expected: UInt32 = request.command == .blockStatus ? 22 : isChange && !isWritable ? 1 : 0
                #expect(try client.ask(request).error == expected, "\(request.type)")
            }
        }
        #expect(device.calls.isEmpty)
        #expect(device.readCount == 0)
    }

    @Test(arguments: WireMode.allCases)
    func `a flush with an offset or a length is EINVAL`(mode: WireMode) throws {
        let client = try client(mode)
        #expect(try client.ask(WireRequest(.flush, offset: 1)).error == 22)
        #expect(try client.ask(WireRequest(.flush, length: 1)).error == 22)
        #expect(try client.isAlive())
    }

    @Test(arguments: WireMode.allCases)
    func `changes of a read-only export are EPERM and their payload is skipped`(mode: WireMode) throws {
        let device = MemoryDevice(noise(5 << 20))
        let client = try NBDTestClient(.serving(device), mode)
        for count in [1, 100_000, 3 << 20] {
            // A payload that looks like requests.
            let request = WireRequest(.disconnect, cookie: 3).encoded(mode)
            var payload: [UInt8] = []
            while payload.count < count { payload += request.prefix(count - payload.count) }
            #expect(try client.ask(.write(payload, at: 0, mode)).error == 1)
        }
        #expect(try client.ask(WireRequest(.trim, length: 4096)).error == 1)
        #expect(try client.ask(WireRequest(.writeZeroes, flags: Flag.noHole, length: 4096)).error == 1)
        #expect(try client.isAlive())
        #expect(device.calls.isEmpty)
    }

    @Test(arguments: WireMode.allCases)
    func `a payload of up to 64 MiB that is too long for the server is skipped and EINVAL`(mode: WireMode) throws {
        let device = MemoryDevice(noise(100), isWritable: true)
        let client = try NBDTestClient(.serving(device) { $0.requestBytes = 1 << 20 }, mode)
        for count in [1 << 20 + 1, 3 << 20] {
            #expect(try client.ask(.write([UInt8](repeating: 1, count: count), at: 0, mode)).error == 22)
        }
        #expect(try client.isAlive())
        #expect(device.bytes == noise(100))
        var request = WireRequest.write([], at: 0, mode)
        request.length = 64 << 20 + 1
        client.send(request)
        #expect(try client.wire.isEnded())
    }

    @Test(arguments: WireMode.allCases)
    func `a payload that is too long ends the connection`(mode: WireMode) throws {
        let client = try client(mode)
        var request = WireRequest.write([], at: 0, mode)
        request.length = 64 << 20 + 1
        client.send(request)
        #expect(try client.wire.isEnded())
    }

    @Test(arguments: [UInt16](0...9) + [0xFFFF])
    func `a payload that is too long for any command ends an extended connection`(type: UInt16) throws {
        let client = try client(.extended)
        client.send(WireRequest(type: type, flags: Flag.payloadLength, length: .max))
        #expect(try client.wire.isEnded())
    }

    @Test(arguments: [0, 3, 4, 5, 6, 8, 0xFFFF] as [UInt16])
    func `a payload where none belongs is skipped and EINVAL`(type: UInt16) throws {
        let client = try client(.extended)
        for count in [0, 1, 32, 100_000] {
            let payload = [UInt8](repeating: 0x21, count: count)
            let request = WireRequest(
                type: type, flags: Flag.payloadLength, length: UInt64(count), payload: payload)
            #expect(try client.ask(request).error == 22)
        }
        #expect(try client.isAlive())
    }

    @Test func `a good-bye has no reply, not even with a payload that is too long`() throws {
        let device = MemoryDevice(noise(100), isWritable: true)
        let client = try NBDTestClient(.serving(device) { $0.requestBytes = 1 << 20 }, .extended)
        client.send(WireRequest(type: 2, flags: Flag.payloadLength, cookie: 1, length: 2 << 20))
        #expect(try client.wire.isEnded())
    }

    @Test func `a write without the payload flag carries its payload all the same`() throws {
        let device = MemoryDevice(noise(1000), isWritable: true)
        let client = try NBDTestClient(.serving(device), .extended)
        let request = WireRequest(type: 1, offset: 3, length: 4, payload: [1, 2, 3, 4])
        #expect(try client.ask(request).error == 0)
        #expect(device.bytes[3..<7] == [1, 2, 3, 4])
        #expect(try client.isAlive())
    }

    @Test(arguments: [WireMode.simple, .structured])
    func `the payload flag without extended headers is EINVAL and nothing is skipped`(mode: WireMode) throws {
        let client = try client(mode)
        #expect(try client.ask(WireRequest(.trim, flags: Flag.payloadLength, length: 4096)).error == 22)
        #expect(try client.isAlive())
    }

    @Test(arguments: WireMode.allCases)
    func `a cookie that is used twice at a time is no reason for anything`(mode: WireMode) throws {
        let client = try client(mode)
        let request = WireRequest(.flush, cookie: 5).encoded(mode)
        client.wire.send(request + request + request)
        for _ in 0..<3 {
            var checker = ReplyChecker(mode)
            checker.expect(WireRequest(.flush, cookie: 5))
            let head = try client.wire.receive(mode.headLength)
            #expect(try checker.take(head[...], [])?.error == 0)
        }
        #expect(try client.isAlive())
    }

    @Test(arguments: WireMode.allCases)
    func `any cookie comes back`(mode: WireMode) throws {
        let client = try client(mode)
        for cookie: UInt64 in [0, 1, .max, 0x0102_0304_0506_0708] {
            client.send(WireRequest(.flush, cookie: cookie))
            #expect(try client.reply().request.cookie == cookie)
        }
    }

    @Test func `a compact request after extended headers ends the connection, and the other way round`() throws {
        for (mode, other) in [(WireMode.extended, WireMode.simple), (.structured, .extended)] {
            let client = try client(mode)
            client.wire.send(WireRequest(.flush).encoded(other) + [0, 0, 0, 0])
            #expect(try client.wire.isEnded())
        }
    }

    @Test(arguments: WireMode.allCases)
    func `DISC ends the connection after the replies before it, whatever its fields`(mode: WireMode) throws {
        let client = try client(mode)
        client.send(WireRequest(.read, cookie: 1, length: 1 << 20))
        client.send(WireRequest(type: 2, flags: 1, cookie: 2, offset: 9, length: 9))
        client.send(WireRequest(.flush, cookie: 3))
        #expect(try client.reply().data == noise(1 << 20))
        #expect(try client.wire.isEnded())
    }

    @Test(arguments: WireMode.allCases)
    func `the flags are what the export can`(mode: WireMode) throws {
        // HAS_FLAGS, SEND_FLUSH, CAN_MULTI_CONN, SEND_CACHE; then SEND_DF, and BLOCK_STATUS_PAYLOAD.
        let common: UInt16 = 0x001 | 0x004 | 0x100 | 0x400
        let ofMode: UInt16 = mode == .simple ? 0 : mode == .structured ? 0x080 : 0x080 | 0x1000
        let readOnly = try client(mode, isWritable: false)
        #expect(readOnly.flags == common | ofMode | 0x002)
        // SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, SEND_FAST_ZERO.
        let writable = try client(mode)
        #expect(writable.flags == common | ofMode | 0x008 | 0x020 | 0x040 | 0x800)
        #expect(writable.size == Self.size)
    }
}
