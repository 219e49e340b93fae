// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import NBDServer

/// A negotiation without a socket, for what needs states that a test cannot bring a connection into.
struct TestNegotiation {
    private var negotiation: Negotiation
    /// What the last message has led to.
    private(set) var outcome = Negotiation.Outcome.incomplete

    /// A negotiation that has seen the client flags.
    init(_ exports: [Export], tls: Negotiation.TLSDemand = .off, flags: UInt32 = 3, maximumLength: UInt32 = 64 << 20) {
        negotiation = Negotiation(exports: ExportTable(exports), tls: tls, maximumLength: maximumLength)
        var bytes: [UInt8] = []
        bytes.append(bigEndian: flags)
        _ = send(bytes)
    }

    /// Gives `bytes` to the server.
    /// - Returns: all that it says.
    mutating func send(_ bytes: [UInt8]) -> [UInt8] {
        var input = bytes[...]
        var output: [UInt8] = []
        while true {
            let before = (input.count, output.count)
            var more: [UInt8] = []
            outcome = negotiation.receive(&input, &more)
            #expect(more.count <= Negotiation.longestOutput)
            output += more
            guard case .incomplete = outcome, before != (input.count, output.count) || negotiation.isListing else {
                return output
            }
        }
    }

    /// All replies to an option.
    mutating func ask(_ type: UInt32, _ data: [UInt8] = []) throws -> [WireOption.Reply] {
        let replies = try WireOption.replies(send(WireOption.encoded(type, data))[...])
        #expect(replies.allSatisfy { $0.option == type })
        return replies
    }

    /// TLS has begun.
    mutating func startOver() { negotiation.startOver() }
    /// The server is being stopped.
    mutating func stop() { negotiation.isStopping = true }

    /// What has been agreed on; nil before the end of the negotiation.
    var session: Session? { if case .transmission(let session) = outcome { session } else { nil } }
    /// Has the server ended it? The reason is empty for an orderly end.
    var closeReason: String? { if case .close(let reason) = outcome { reason?.description ?? "" } else { nil } }
    /// Does TLS begin?
    var isTLSNext: Bool { if case .startTLS = outcome { true } else { false } }
}
