// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing

@testable import NBDServer

@Suite struct RequestRulesTests {
    private static let size: UInt64 = 1 << 40

    private func request(type: UInt16, flags: UInt16 = 0, offset: UInt64 = 0, length: UInt32 = 512) throws -> NBDRequest
    {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: NBDProtocol.requestMagic)
        bytes.append(bigEndian: flags)
        bytes.append(bigEndian: type)
        bytes.append(bigEndian: UInt64(7))
        bytes.append(bigEndian: offset)
        bytes.append(bigEndian: length)
        return try #require(NBDRequest(decoding: bytes[...]))
    }

    struct Case: Sendable {
        var type: UInt16
        var flags: UInt16 = 0
        var offset: UInt64 = 0
        var length: UInt32 = 512
        var verdict: RequestRules.Verdict
    }

    @Test(arguments: [
        Case(type: 0, verdict: .read),
        Case(type: 0, offset: size - 512, verdict: .read),
        Case(type: 0, offset: size - 511, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 0, offset: .max, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 0, offset: .max - 511, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 0, length: 0, verdict: .succeed),
        Case(type: 0, offset: size, length: 0, verdict: .succeed),
        Case(type: 0, length: 64 << 20, verdict: .read),
        Case(type: 0, length: 64 << 20 + 1, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 0, length: .max, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 0, flags: 1, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 0, flags: 0x8000, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 1, verdict: .refuse(.notPermitted, payload: 512)),
        Case(
            type: 1, flags: 0xFFFF, offset: .max, length: 64 << 20, verdict: .refuse(.notPermitted, payload: 64 << 20)),
        Case(type: 1, length: .max, verdict: .close(reason: "sent a write of 4294967295 bytes to a read-only export")),
        Case(type: 2, flags: 9, offset: 5, verdict: .disconnect),
        Case(type: 3, length: 0, verdict: .succeed),
        Case(type: 3, offset: 1, length: 0, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 3, flags: 1, length: 0, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 4, verdict: .refuse(.notPermitted, payload: 0)),
        Case(type: 5, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 6, verdict: .refuse(.notPermitted, payload: 0)),
        Case(type: 7, verdict: .refuse(.invalid, payload: 0)),
        Case(type: 0xFFFF, verdict: .refuse(.invalid, payload: 0)),
    ])
    func `every kind of request has its verdict`(test: Case) throws {
        let request = try request(type: test.type, flags: test.flags, offset: test.offset, length: test.length)
        #expect(RequestRules.judge(request, size: Self.size) == test.verdict)
    }

    @Test func `a wrong magic number is not a request`() {
        #expect(NBDRequest(decoding: [UInt8](repeating: 0x25, count: 28)[...]) == nil)
    }
}
