// SPDX-License-Identifier: Apache-2.0

/// All that a client says that chooses the default export, sends requests without waiting for replies, and says good-bye.
public struct WireConversation {
    /// The form of the replies.
    public let mode: WireMode
    /// The names of the contexts that are chosen; the server numbers them from 1 on.
    public let contexts: [String]
    /// No two have the same cookie.
    public let requests: [WireRequest]

    /// - Parameter contexts: their names, all of which the server knows; none with simple replies, which have no use for them.
    public init(_ mode: WireMode, contexts: [String] = [], _ requests: [WireRequest]) {
        self.mode = mode
        self.contexts = mode == .simple ? [] : contexts
        self.requests = requests
    }

    /// On the wire, up to the good-bye.
    public var bytes: [UInt8] {
        var bytes = negotiation
        for request in requests { bytes += request.encoded(mode) }
        return bytes + WireRequest(.disconnect, cookie: .max).encoded(mode)
    }

    /// What the client says before its first request.
    public var negotiation: [UInt8] {
        var bytes: [UInt8] = [0, 0, 0, 3]
        switch mode {
        case .simple: break
        case .structured: bytes += WireOption.encoded(8)
        case .extended: bytes += WireOption.encoded(11)
        }
        if !contexts.isEmpty { bytes += WireOption.encoded(10, WireOption.contexts("", contexts)) }
        return bytes + WireOption.encoded(7, WireOption.info(""))
    }

    private static let greetingLength = 18

    /// How many bytes the server says before the first reply to a request.
    public var negotiationLength: Int {
        let ack = WireOption.headLength
        let chosen = contexts.reduce(0) { $0 + WireOption.headLength + 4 + $1.utf8.count }
        let (blockSizes, export) = (WireOption.headLength + 14, WireOption.headLength + 12)
        return Self.greetingLength + (mode == .simple ? 0 : ack) + (contexts.isEmpty ? 0 : chosen + ack) + blockSizes
            + export + ack
    }

    /// Checks the negotiation, and returns what comes behind it.
    /// - Parameter output: all that the server has said, or the beginning of that.
    public func replies(in output: [UInt8]) throws(WireFault) -> ArraySlice<UInt8> {
        guard output.starts(with: "NBDMAGICIHAVEOPT".utf8.prefix(output.count)) else { throw WireFault("no greeting") }
        guard output.count >= negotiationLength else { return [] }
        let options = try WireOption.replies(output[Self.greetingLength..<negotiationLength])
        guard options.last?.type == 1 else { throw WireFault("the export has been refused") }
        return output[negotiationLength...]
    }

    /// For the replies to the requests, which are expected.
    public var checker: ReplyChecker {
        var checker = ReplyChecker(mode, contexts: contexts.indices.map { UInt32($0 + 1) })
        for request in requests { checker.expect(request) }
        return checker
    }
}
