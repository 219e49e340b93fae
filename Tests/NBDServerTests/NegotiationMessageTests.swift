// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import NBDServer

@Suite struct NegotiationMessageTests {
    private static let disk = Export(
        name: "disk", description: "a disk", device: MemoryDevice([UInt8](repeating: 1, count: 1000)))

    /// A negotiation that has seen nothing.
    private func fresh() -> Negotiation {
        Negotiation(exports: ExportTable([Self.disk]), tls: .off, maximumLength: 64 << 20)
    }

    /// A negotiation that has seen the client flags.
    private func negotiation(_ flags: UInt32 = 3) -> Negotiation {
        var negotiation = fresh()
        var input: [UInt8] = []
        input.append(bigEndian: flags)
        var rest = input[...]
        var output: [UInt8] = []
        guard case .incomplete = negotiation.receive(&rest, &output) else { preconditionFailure("flags \(flags)") }
        return negotiation
    }

    /// Lets the negotiation take one message, and say all that it has to say to it.
    private func send(
        _ bytes: [UInt8], to negotiation: inout Negotiation
    ) -> (outcome: Negotiation.Outcome, output: [UInt8], unused: Int) {
        var rest = bytes[...]
        var output: [UInt8] = []
        var outcome = negotiation.receive(&rest, &output)
        while negotiation.isListing {
            var more: [UInt8] = []
            outcome = negotiation.receive(&rest, &more)
            output += more
        }
        return (outcome, output, rest.count)
    }

    @Test func `the greeting offers fixed newstyle without zeroes`() {
        #expect(Negotiation.greeting == Array("NBDMAGICIHAVEOPT".utf8) + [0, 3])
    }

    @Test func `GO gives size, flags and block sizes and starts the transmission`() throws {
        var negotiation = negotiation()
        let result = send(WireOption.encoded(7, WireOption.info("disk", [1, 2, 3, 99])), to: &negotiation)
        guard case .transmission(let session) = result.outcome else { throw Problem.unexpected }
        #expect(session.export.name == "disk")
        let replies = try WireOption.replies(result.output[...])
        #expect(replies.map(\.type) == [3, 3, 3, 3, 1])
        #expect(replies[0].data == [0, 3, 0, 0, 0, 1, 0, 0, 0x10, 0, 2, 0, 0, 0])
        #expect(replies[1].data == [0, 0, 0, 0, 0, 0, 0, 0, 3, 0xE8, 0x05, 0x07])
        #expect(replies[2].data == [0, 1] + Array("disk".utf8))
        #expect(replies[3].data == [0, 2] + Array("a disk".utf8))
    }

    @Test func `INFO answers the same and goes on`() throws {
        var negotiation = negotiation()
        let result = send(WireOption.encoded(6, WireOption.info("disk")), to: &negotiation)
        guard case .incomplete = result.outcome else { throw Problem.unexpected }
        #expect(try WireOption.replies(result.output[...]).map(\.type) == [3, 3, 1])
    }

    @Test func `the default export is found under the empty name`() throws {
        var negotiation = negotiation()
        guard case .transmission = send(WireOption.encoded(7, WireOption.info("")), to: &negotiation).outcome else {
            throw Problem.unexpected
        }
    }

    @Test func `an unknown export is an error reply and the negotiation goes on`() throws {
        var negotiation = negotiation()
        let result = send(WireOption.encoded(7, WireOption.info("other")), to: &negotiation)
        guard case .incomplete = result.outcome else { throw Problem.unexpected }
        #expect(
            try WireOption.replies(result.output[...]).map(\.type) == [NBDProtocol.OptionReply.unknownExport.rawValue])
        guard case .transmission = send(WireOption.encoded(7, WireOption.info("disk")), to: &negotiation).outcome else {
            throw Problem.unexpected
        }
    }

    @Test(arguments: [1, 3], [0, 124]) func `EXPORT_NAME has zeroes unless the client declines them`(
        flags: UInt32, zeroes: Int
    ) throws {
        guard (flags == 1) == (zeroes == 124) else { return }
        var negotiation = negotiation(flags)
        let result = send(WireOption.encoded(1, Array("disk".utf8)), to: &negotiation)
        guard case .transmission = result.outcome else { throw Problem.unexpected }
        #expect(result.output.count == 10 + zeroes)
    }

    @Test func `EXPORT_NAME works without fixed newstyle, other options do not`() throws {
        var negotiation = negotiation(0)
        guard case .transmission = send(WireOption.encoded(1), to: &negotiation).outcome else {
            throw Problem.unexpected
        }
        var other = self.negotiation(0)
        guard
            case .close(reason: "sent option 3 without fixed newstyle negotiation"?) = send(
                WireOption.encoded(3), to: &other
            )
            .outcome
        else { throw Problem.unexpected }
    }

    @Test func `EXPORT_NAME of an unknown export ends the connection`() throws {
        var negotiation = negotiation()
        guard
            case .close(reason: "asked for an export that does not exist"?) =
                send(WireOption.encoded(1, Array("x".utf8)), to: &negotiation).outcome
        else { throw Problem.unexpected }
    }

    @Test func `LIST names the exports with their descriptions`() throws {
        var negotiation = negotiation()
        let replies = try WireOption.replies(send(WireOption.encoded(3), to: &negotiation).output[...])
        #expect(replies.map(\.type) == [2, 1])
        #expect(replies[0].data == [0, 0, 0, 4] + Array("diska disk".utf8))
        #expect(
            try WireOption.replies(send(WireOption.encoded(3, [0]), to: &negotiation).output[...]).map(\.type) == [
                0x8000_0003
            ])
    }

    @Test func `ABORT is acknowledged before the end`() throws {
        var negotiation = negotiation()
        let result = send(WireOption.encoded(2), to: &negotiation)
        guard case .close(reason: nil) = result.outcome else { throw Problem.unexpected }
        #expect(try WireOption.replies(result.output[...]).map(\.type) == [1])
    }

    @Test(arguments: [0, 4, 12, 0xFFFF_FFFF] as [UInt32])
    func `options that are not known are refused politely`(type: UInt32) throws {
        var negotiation = negotiation()
        let result = send(WireOption.encoded(type, [1, 2, 3]), to: &negotiation)
        guard case .incomplete = result.outcome else { throw Problem.unexpected }
        let replies = try WireOption.replies(result.output[...])
        #expect(replies.map(\.option) == [type])
        #expect(replies.map(\.type) == [0x8000_0001])
        #expect(result.unused == 0)
    }

    @Test(
        arguments: [
            [], [0], [0, 0, 0, 5, 1], [0, 0, 0, 0, 0, 2, 0, 1], [0, 0, 0, 0, 0, 0, 7], [0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
        ] as [[UInt8]])
    func `INFO data whose lengths do not fit is invalid`(data: [UInt8]) throws {
        var negotiation = negotiation()
        #expect(
            try WireOption.replies(send(WireOption.encoded(6, data), to: &negotiation).output[...]).map(\.type) == [
                0x8000_0003
            ])
    }

    @Test func `an option that is too long is skipped with an error reply`() throws {
        var negotiation = negotiation()
        var result = send(
            WireOption.encoded(6, length: 60_000) + [UInt8](repeating: 0, count: 10_000), to: &negotiation)
        #expect(try WireOption.replies(result.output[...]).map(\.type) == [0x8000_0009])
        #expect(result.unused == 10_000)
        result = send([UInt8](repeating: 0, count: 60_000) + WireOption.encoded(3), to: &negotiation)
        #expect(result.unused == 16)
        #expect(
            try WireOption.replies(send(WireOption.encoded(3), to: &negotiation).output[...]).map(\.type) == [2, 1])
    }

    @Test func `a giant option ends the connection before its data comes`() throws {
        var negotiation = negotiation()
        guard
            case .close(reason: "sent an option of 4294967295 bytes"?) =
                send(WireOption.encoded(6, length: .max), to: &negotiation).outcome
        else { throw Problem.unexpected }
    }

    @Test func `what allows no error reply ends the connection without one`() throws {
        for (flags, type) in [(3, 1), (0, 3)] as [(UInt32, UInt32)] {
            var negotiation = negotiation(flags)
            let result = send(WireOption.encoded(type, length: 17_000), to: &negotiation)
            guard case .close(reason: "sent an option of 17000 bytes"?) = result.outcome else {
                throw Problem.unexpected
            }
            #expect(result.output.isEmpty)
        }
    }

    @Test func `a flood of options ends the connection`() throws {
        var negotiation = negotiation()
        for _ in 0..<Negotiation.maximumOptionCount {
            guard case .incomplete = send(WireOption.encoded(99), to: &negotiation).outcome else {
                throw Problem.unexpected
            }
        }
        guard
            case .close(reason: "sent more than 256 options"?) = send(WireOption.encoded(99), to: &negotiation).outcome
        else {
            throw Problem.unexpected
        }
    }

    @Test func `options that are skipped count as well`() throws {
        var negotiation = negotiation()
        for _ in 0..<Negotiation.maximumOptionCount {
            guard case .incomplete = send(WireOption.encoded(99, length: 17_000), to: &negotiation).outcome else {
                throw Problem.unexpected
            }
            guard case .incomplete = send([UInt8](repeating: 0, count: 17_000), to: &negotiation).outcome else {
                throw Problem.unexpected
            }
        }
        guard
            case .close(reason: "sent more than 256 options"?) = send(
                WireOption.encoded(99, length: 17_000), to: &negotiation
            )
            .outcome
        else { throw Problem.unexpected }
    }

    @Test func `unknown client flags and a wrong magic number end the connection`() throws {
        var negotiation = fresh()
        guard case .close = send([0, 0, 0, 4], to: &negotiation).outcome else { throw Problem.unexpected }
        var other = self.negotiation()
        guard
            case .close(reason: "sent an option without IHAVEOPT"?) =
                send([UInt8](repeating: 0x47, count: 16), to: &other).outcome
        else { throw Problem.unexpected }
    }

    @Test func `a message in pieces is taken when it is complete`() throws {
        let message = WireOption.encoded(7, WireOption.info("disk"))
        for split in 1..<message.count {
            var negotiation = negotiation()
            let result = send(Array(message[..<split]), to: &negotiation)
            guard case .incomplete = result.outcome else { throw Problem.unexpected }
            #expect(result.unused == split)
            #expect(result.output.isEmpty)
        }
    }

    private enum Problem: Error { case unexpected }
}
