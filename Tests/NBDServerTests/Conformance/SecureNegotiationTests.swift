// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import NBDServer

/// NBD specification, "TLS support", as far as the negotiation goes; and its end when the server stops.
@Suite struct SecureNegotiationTests {
    private let exports = [Export(name: "disk", description: "a disk", device: MemoryDevice(noise(1000)))]
    private static let tlsRequired: UInt32 = 0x8000_0005
    private static let shutdown: UInt32 = 0x8000_0007

    @Test(arguments: [3, 6, 7, 8, 9, 10, 11, 4, 99] as [UInt32], [0, 3])
    func `where TLS is required every option but STARTTLS and ABORT is TLS_REQD`(type: UInt32, count: Int) throws {
        var negotiation = TestNegotiation(exports, tls: .required)
        #expect(
            try negotiation.ask(type, [UInt8](repeating: 0, count: count)).map(\.type) == [Self.tlsRequired])
        #expect(try negotiation.ask(5).map(\.type) == [1])
        #expect(negotiation.isTLSNext)
    }

    @Test func `where TLS is required ABORT is acknowledged`() throws {
        var negotiation = TestNegotiation(exports, tls: .required)
        #expect(try negotiation.ask(2).map(\.type) == [1])
        #expect(negotiation.closeReason == "")
    }

    @Test func `where TLS is required EXPORT_NAME ends the connection and tells nothing`() {
        var negotiation = TestNegotiation(exports, tls: .required)
        #expect(negotiation.send(WireOption.encoded(1, Array("disk".utf8))).isEmpty)
        #expect(negotiation.closeReason == "asked for an export without TLS")
    }

    @Test func `where TLS is required overlong options tell nothing of the exports`() throws {
        var negotiation = TestNegotiation(exports, tls: .required)
        #expect(try negotiation.ask(7, [UInt8](repeating: 0, count: 20_000)).map(\.isError) == [true])
    }

    @Test func `a second STARTTLS is INVALID`() throws {
        var negotiation = TestNegotiation(exports, tls: .allowed)
        #expect(try negotiation.ask(5).map(\.type) == [1])
        negotiation.startOver()
        #expect(try negotiation.ask(5).map(\.type) == [0x8000_0003])
        #expect(try negotiation.ask(7, WireOption.info("disk")).last?.type == 1)
        #expect(negotiation.session != nil)
    }

    @Test func `STARTTLS with data is INVALID and TLS does not begin`() throws {
        var negotiation = TestNegotiation(exports, tls: .required)
        #expect(try negotiation.ask(5, [0]).map(\.type) == [0x8000_0003])
        #expect(!negotiation.isTLSNext)
    }

    @Test func `nothing that was agreed on in the clear survives STARTTLS`() throws {
        for option: UInt32 in [8, 11] {
            var negotiation = TestNegotiation(exports, tls: .allowed)
            #expect(try negotiation.ask(option).map(\.type) == [1])
            #expect(try negotiation.ask(10, WireOption.contexts("disk", ["base:allocation"])).map(\.type) == [4, 1])
            #expect(try negotiation.ask(5).map(\.type) == [1])
            negotiation.startOver()
            // Without structured replies there are no contexts.
            #expect(try negotiation.ask(10, WireOption.contexts("disk")).map(\.type) == [0x8000_0003])
            #expect(try negotiation.ask(8).map(\.type) == [1])
            #expect(try negotiation.ask(7, WireOption.info("disk")).last?.type == 1)
            let session = try #require(negotiation.session)
            #expect(session.mode == .structured)
            #expect(session.contexts.isEmpty)
        }
    }

    @Test func `client flags and the number of options survive STARTTLS`() throws {
        var negotiation = TestNegotiation(exports, tls: .allowed, flags: 1)
        for _ in 0..<254 { _ = try negotiation.ask(99) }
        #expect(try negotiation.ask(5).map(\.type) == [1])
        negotiation.startOver()
        #expect(negotiation.send(WireOption.encoded(1)).count == 134)
        #expect(negotiation.session != nil)
        var other = TestNegotiation(exports, tls: .allowed)
        for _ in 0..<255 { _ = try other.ask(99) }
        #expect(try other.ask(5).map(\.type) == [1])
        other.startOver()
        #expect(try other.ask(7, WireOption.info("disk")).isEmpty)
        #expect(other.closeReason == "sent more than 256 options")
    }

    @Test(arguments: [3, 5, 6, 7, 8, 9, 10, 11, 99] as [UInt32])
    func `while the server stops every option but ABORT is SHUTDOWN`(type: UInt32) throws {
        var negotiation = TestNegotiation(exports, tls: .allowed)
        negotiation.stop()
        #expect(try negotiation.ask(type).map(\.type) == [Self.shutdown])
        #expect(try negotiation.ask(2).map(\.type) == [1])
    }

    @Test func `while the server stops EXPORT_NAME ends the connection`() {
        var negotiation = TestNegotiation(exports)
        negotiation.stop()
        #expect(negotiation.send(WireOption.encoded(1)).isEmpty)
        #expect(negotiation.closeReason == "came while the server is being stopped")
    }

    @Test(arguments: [(512, 1 << 20), (4096, 64 << 20), (65_536, 1 << 20), (4096, 1_050_000)])
    func `the block sizes that are told are what the specification allows`(alignment: Int, limit: Int) throws {
        let device = HugeDevice(size: 1 << 30, alignment: alignment)
        var negotiation = TestNegotiation(
            [Export(name: "", description: "", device: device)], maximumLength: UInt32(limit))
        let sizes = try #require(
            try negotiation.ask(7, WireOption.info("", [3])).first { $0.data.starts(with: [0, 3]) })
        let minimum = try #require(sizes.data.integer(at: 2, UInt32.self))
        let preferred = try #require(sizes.data.integer(at: 6, UInt32.self))
        let maximum = try #require(sizes.data.integer(at: 10, UInt32.self))
        #expect(minimum == alignment && minimum <= 65_536)
        #expect(preferred >= max(minimum, 512) && preferred.nonzeroBitCount == 1)
        #expect(maximum % minimum == 0 && maximum >= preferred && maximum >= 1 << 20)
    }
}
