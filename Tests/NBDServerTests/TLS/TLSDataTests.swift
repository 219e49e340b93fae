// SPDX-License-Identifier: Apache-2.0

import CTLS
import Testing

@testable import NBDServer

@Suite struct TLSDataTests {
    private func pair(
        _ version: Int32, bufferSize: Int32 = 0, keyUpdateInterval: Int = 64 << 30
    ) throws -> TLSPair {
        let context = try TLSContext(certificates: nil, preSharedKeys: TLSCredentials.keys())
        let client = TLSPair.Client(
            version: version, identity: ("alice", TLSCredentials.keyOfAlice),
            suites: version == TLS1_2_VERSION ? "PSK" : "")
        let pair = try TLSPair(context, client, bufferSize: bufferSize, keyUpdateInterval: keyUpdateInterval)
        try pair.connect()
        return pair
    }

    private func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 + $0 >> 9) } }

    /// Sends all of `bytes` from the server to the client, both by turns.
    /// - Returns: how often the server sent only a part.
    private func send(_ bytes: [UInt8], _ pair: TLSPair) throws -> Int {
        var (sent, received, pauses, idleRounds) = (0, [UInt8](), 0, 0)
        while received.count < bytes.count {
            let before = (sent, received.count)
            if sent < bytes.count {
                // Each time from another place in memory, as an sendQueue may.
                switch pair.serverSend(Array(bytes[sent...])) {
                case .bytes(let count):
                    sent += count
                    if sent < bytes.count { pauses += 1 }
                case .wouldBlock: pauses += 1
                case .closed: throw TLSPair.Stuck()
                }
            }
            while let piece = pair.clientReceive(), !piece.isEmpty { received += piece }
            // A record takes some rounds through a narrow socket.
            idleRounds = before == (sent, received.count) ? idleRounds + 1 : 0
            if idleRounds > 20 { throw TLSPair.Stuck() }
        }
        #expect(received == bytes)
        return pauses
    }

    @Test(arguments: TLSHandshakeTests.versions, [1, 28, 16_383, 16_384, 16_385, 100_003])
    func `bytes of odd sizes go both ways`(version: Int32, count: Int) throws {
        let pair = try pair(version)
        let bytes = pattern(count)
        _ = try send(bytes, pair)
        var (sent, received) = (0, [UInt8]())
        while received.count < count {
            sent += pair.clientSend(bytes[sent...])
            let piece = pair.serverReceive(777)
            guard case .bytes(let some) = piece.progress else { throw TLSPair.Stuck() }
            #expect(some == piece.bytes.count)
            received += piece.bytes
        }
        #expect(received == bytes)
        #expect(pair.serverReceive().progress == .wouldBlock)
        #expect(!pair.session.hasPending)
    }

    @Test(arguments: TLSHandshakeTests.versions)
    func `megabytes pass through a socket that takes little at a time`(version: Int32) throws {
        let pair = try pair(version, bufferSize: 4096)
        #expect(try send(pattern(3_000_001), pair) > 100)
    }

    @Test(arguments: TLSHandshakeTests.versions)
    func `what was decrypted and not taken is pending, which the socket does not tell`(version: Int32) throws {
        let pair = try pair(version)
        #expect(!pair.session.hasPending)
        // Two records, of which one may come along with the other.
        #expect(pair.clientSend([1, 2, 3][...]) == 3)
        #expect(pair.clientSend([4, 5][...]) == 2)
        #expect(pair.serverReceive(2).bytes == [1, 2])
        #expect(pair.session.hasPending)
        #expect(pair.serverReceive(2).bytes == [3, 4])
        #expect(pair.session.hasPending)
        #expect(pair.serverReceive(2).bytes == [5])
        #expect(!pair.session.hasPending)
        #expect(pair.serverReceive(2).progress == .wouldBlock)
    }

    @Test func `what comes along with the end of the handshake is pending`() throws {
        let context = try TLSContext(certificates: nil, preSharedKeys: TLSCredentials.keys())
        let pair = try TLSPair(
            context, TLSPair.Client(version: TLS1_3_VERSION, identity: ("alice", TLSCredentials.keyOfAlice)))
        pair.clientHandshakeStep()
        #expect(pair.session.handshake() == .wantsRead)
        pair.clientHandshakeStep()
        #expect(pair.clientSend([1, 2, 3][...]) == 3)
        #expect(pair.session.handshake() == .done)
        #expect(pair.session.hasPending)
        #expect(pair.serverReceive().bytes == [1, 2, 3])
    }

    @Test(arguments: TLSHandshakeTests.versions)
    func `a part of a record is not pending`(version: Int32) throws {
        let pair = try pair(version)
        try pair.sendRaw([23, 3, 3, 0])
        #expect(pair.serverReceive().progress == .wouldBlock)
        #expect(!pair.session.hasPending)
    }

    @Test(arguments: TLSHandshakeTests.versions)
    func `a goodbye closes, and the other side can still be heard after one's own`(version: Int32) throws {
        let pair = try pair(version)
        #expect(pair.serverSend([7]) == .bytes(1))
        pair.session.endSending()
        #expect(pair.clientReceive() == [7])
        #expect(pair.clientReceive() == nil)
        #expect(pair.clientSend([1, 2][...]) == 2)
        pair.clientGoodbye()
        #expect(pair.serverReceive().bytes == [1, 2])
        #expect(pair.serverReceive().progress == .closed)
        #expect(pair.serverReceive().progress == .closed)
    }

    @Test(arguments: TLSHandshakeTests.versions)
    func `a connection that is cut off counts as closed, behind what came before`(version: Int32) throws {
        let pair = try pair(version)
        #expect(pair.clientSend([1, 2][...]) == 2)
        try pair.sendRaw([23, 3, 3])
        pair.hangUp()
        #expect(pair.serverReceive().bytes == [1, 2])
        #expect(pair.serverReceive().progress == .closed)
        #expect(pair.serverSend([1]) == .closed)
        pair.session.endSending()
    }

    @Test(arguments: TLSHandshakeTests.versions)
    func `a forged record closes for good, whatever follows`(version: Int32) throws {
        let pair = try pair(version)
        try pair.sendRaw([23, 3, 3, 0, 32] + [UInt8](repeating: 0x55, count: 32))
        #expect(pair.serverReceive().progress == .closed)
        #expect(pair.serverSend([1]) == .closed)
        #expect(pair.clientSend([1, 2, 3][...]) == 3)
        #expect(pair.serverReceive().progress == .closed)
        pair.hangUp()
        #expect(pair.serverReceive().progress == .closed)
    }

    @Test func `sending to a client that has gone is no signal but an answer`() throws {
        let pair = try pair(TLS1_3_VERSION)
        pair.hangUp()
        #expect(pair.serverSend([UInt8](repeating: 0, count: 100_000)) == .closed)
    }

    @Test func `a renegotiation is refused, and the connection goes on`() throws {
        let pair = try pair(TLS1_2_VERSION)
        #expect(pair.clientStartsRenegotiation())
        #expect(pair.serverReceive().progress == .wouldBlock)
        // A warning, no handshake.
        #expect(pair.clientHandshakeStep() == "no renegotiation")
        #expect(pair.serverSend([9]) == .bytes(1))
    }

    @Test(arguments: [false, true])
    func `a client may change its key, and ask the server to`(asksServer: Bool) throws {
        let pair = try pair(TLS1_3_VERSION)
        for round: UInt8 in 0..<20 {
            #expect(pair.clientUpdatesKey(asksServer: asksServer))
            #expect(pair.clientSend([round][...]) == 1)
            #expect(pair.serverReceive().bytes == [round])
            #expect(pair.serverSend([round, 1]) == .bytes(2))
            #expect(pair.clientReceive() == [round, 1])
        }
    }

    @Test func `a new key while the server's data wait breaks nothing`() throws {
        let pair = try pair(TLS1_3_VERSION, bufferSize: 4096)
        let bytes = pattern(300_000)
        // The socket takes a part of the first record.
        #expect(pair.serverSend(bytes) == .wouldBlock)
        #expect(pair.clientUpdatesKey(asksServer: true))
        #expect(pair.clientSend([1][...]) == 1)
        #expect(pair.serverReceive().bytes == [1])
        var received: [UInt8] = []
        while let piece = pair.clientReceive(), !piece.isEmpty { received += piece }
        var sent = 0
        for _ in 0..<10_000 where sent < bytes.count {
            if case .bytes(let count) = pair.serverSend(Array(bytes[sent...])) { sent += count }
            while let piece = pair.clientReceive(), !piece.isEmpty { received += piece }
        }
        #expect(received == bytes)
    }

    @Test func `a client that sends new keys and nothing else is cut off, and not for a thousand`() throws {
        let pair = try pair(TLS1_3_VERSION)
        try pair.sendRaw(pair.clientKeyUpdates(1000))
        #expect(pair.serverReceive().progress == .wouldBlock)
        #expect(pair.clientSend([1][...]) == 1)
        #expect(pair.serverReceive().bytes == [1])
        try pair.sendRaw(pair.clientKeyUpdates(7000))
        #expect(pair.serverReceive().progress == .closed)
        #expect(pair.serverSend([1]) == .closed)
    }

    @Test(arguments: TLSHandshakeTests.versions)
    func `the server changes its key in time`(version: Int32) throws {
        let pair = try pair(version, bufferSize: 4096, keyUpdateInterval: 50_000)
        _ = try send(pattern(1_000_001), pair)
        #expect(pair.keyUpdatesSeen == (version == TLS1_3_VERSION ? 15 : 0))
    }
}
