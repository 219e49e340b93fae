// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import NBDServer

@Suite struct RequestRulesTests {
    private static let size: UInt64 = 1 << 40

    struct Case: Sendable {
        var type: UInt16
        var flags: UInt16 = 0
        var offset: UInt64 = 0
        var length: UInt64 = 512
        var verdict: Kind
    }

    /// A verdict without its sentence.
    enum Kind: Equatable, Sendable {
        case perform(RequestRules.Operation)
        case refuse(NBDProtocol.ErrorNumber)
        case disconnect
        case close
    }

    /// A verdict without its sentence, which must be there.
    private func kind(_ verdict: RequestRules.Verdict) -> Kind {
        switch verdict {
        case .perform(let operation): return .perform(operation)
        case .refuse(let error, let sentence):
            #expect(sentence.contains(" "))
            return .refuse(error)
        case .disconnect: return .disconnect
        case .close(let reason):
            #expect(reason.description.contains(" "))
            return .close
        }
    }

    private func session(_ device: any BlockDevice, _ mode: ReplyMode) -> Session {
        let export = Export(name: "", description: "", device: device)
        return Session(export: export, mode: mode, contexts: [], maximumLength: 64 << 20)
    }

    private func request(_ test: Case, _ mode: ReplyMode) throws -> NBDRequest {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: mode == .extended ? NBDProtocol.extendedRequestMagic : NBDProtocol.requestMagic)
        bytes.append(bigEndian: test.flags)
        bytes.append(bigEndian: test.type)
        bytes.append(bigEndian: UInt64(7))
        bytes.append(bigEndian: test.offset)
        if mode == .extended {
            bytes.append(bigEndian: test.length)
        } else {
            bytes.append(bigEndian: UInt32(test.length))
        }
        return try #require(NBDRequest(decoding: bytes[...], mode))
    }

    @Test(
        arguments: [
            Case(type: 0, verdict: .perform(.read)),
            Case(type: 0, offset: size - 512, verdict: .perform(.read)),
            Case(type: 0, offset: size - 511, verdict: .refuse(.invalid)),
            Case(type: 0, offset: .max, verdict: .refuse(.invalid)),
            Case(type: 0, offset: .max - 511, verdict: .refuse(.invalid)),
            Case(type: 0, length: 0, verdict: .perform(.nothing)),
            Case(type: 0, offset: size, length: 0, verdict: .perform(.nothing)),
            Case(type: 0, length: 64 << 20, verdict: .perform(.read)),
            Case(type: 0, length: 64 << 20 + 1, verdict: .refuse(.invalid)),
            Case(type: 0, length: 0xFFFF_FFFF, verdict: .refuse(.invalid)),
            Case(type: 0, flags: 1, verdict: .refuse(.invalid)),
            Case(type: 0, flags: 0x8000, verdict: .refuse(.invalid)),
            Case(type: 1, verdict: .refuse(.notPermitted)),
            Case(type: 1, flags: 0xFFFF, offset: .max, length: 64 << 20, verdict: .refuse(.notPermitted)),
            Case(type: 1, length: 0xFFFF_FFFF, verdict: .close),
            Case(type: 2, flags: 9, offset: 5, verdict: .disconnect),
            Case(type: 3, length: 0, verdict: .perform(.nothing)),
            Case(type: 3, offset: 1, length: 0, verdict: .refuse(.invalid)),
            Case(type: 3, flags: 1, length: 0, verdict: .refuse(.invalid)),
            Case(type: 4, verdict: .refuse(.notPermitted)),
            Case(type: 5, verdict: .perform(.cache)),
            Case(type: 6, verdict: .refuse(.notPermitted)),
            Case(type: 7, verdict: .refuse(.invalid)),
            Case(type: 0xFFFF, verdict: .refuse(.invalid)),
        ], [ReplyMode.simple, .structured, .extended])
    func `every kind of request to a read-only export has its verdict`(test: Case, mode: ReplyMode) throws {
        let session = session(HugeDevice(size: Self.size), mode)
        #expect(kind(RequestRules.judge(try request(test, mode), session)) == test.verdict)
    }

    @Test(
        arguments: [
            Case(type: 0, flags: 1, verdict: .perform(.read)),
            Case(type: 1, verdict: .perform(.write(isDurable: false))),
            Case(type: 1, flags: 1, verdict: .perform(.write(isDurable: true))),
            Case(type: 1, flags: 2, verdict: .refuse(.invalid)),
            Case(type: 1, flags: 0x8000, verdict: .refuse(.invalid)),
            Case(type: 1, offset: size - 511, verdict: .refuse(.noSpace)),
            Case(type: 1, offset: .max, verdict: .refuse(.noSpace)),
            Case(type: 1, length: 0, verdict: .perform(.nothing)),
            Case(type: 1, length: 64 << 20, verdict: .perform(.write(isDurable: false))),
            Case(type: 1, length: 64 << 20 + 1, verdict: .close),
            Case(type: 3, length: 0, verdict: .perform(.flush)),
            Case(type: 3, flags: 1, length: 0, verdict: .perform(.flush)),
            Case(type: 4, verdict: .perform(.trim(isDurable: false))),
            Case(type: 4, flags: 1, verdict: .perform(.trim(isDurable: true))),
            Case(type: 4, offset: size, verdict: .refuse(.invalid)),
            Case(type: 4, length: 0xFFFF_FFFF, verdict: .perform(.trim(isDurable: false))),
            Case(type: 5, length: 0xFFFF_FFFF, verdict: .perform(.cache)),
            Case(type: 6, verdict: .perform(.zero([.mayDiscard], isDurable: false))),
            Case(type: 6, flags: 2, verdict: .perform(.zero([], isDurable: false))),
            Case(type: 6, flags: 0x13, verdict: .perform(.zero([.fastOnly], isDurable: true))),
            Case(type: 6, flags: 4, verdict: .refuse(.invalid)),
            Case(type: 6, offset: size, verdict: .refuse(.noSpace)),
        ], [ReplyMode.simple, .structured, .extended])
    func `every kind of request to a writable export has its verdict`(test: Case, mode: ReplyMode) throws {
        let session = session(HugeDevice(size: Self.size, isWritable: true), mode)
        #expect(kind(RequestRules.judge(try request(test, mode), session)) == test.verdict)
    }

    @Test(arguments: [ReplyMode.simple, .structured, .extended])
    func `a wrong magic number is not a request`(mode: ReplyMode) {
        #expect(NBDRequest(decoding: [UInt8](repeating: 0x25, count: 32)[...], mode) == nil)
    }
}
