// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import NBDServer

/// A client that is told that it may open many connections gives up when it cannot.
@Suite struct MultiConnectionTests {
    private static let flag: UInt16 = 1 << 8

    private func server(limit: Int) throws -> Server {
        try Server.serving(MemoryDevice([1, 2, 3])) { $0.connections = limit }
    }

    @Test(arguments: [1, 2, 4, 15])
    func `with few places many connections are not offered`(limit: Int) throws {
        let server = try server(limit: limit)
        let client = try NBDTestClient(server)
        #expect(client.flags & Self.flag == 0)
    }

    @Test(arguments: [16, 17, 1024])
    func `with enough places they are, and all connections of a client are told the same`(limit: Int) throws {
        let server = try server(limit: limit)
        var clients: [NBDTestClient] = []
        for _ in 0..<16 { clients.append(try NBDTestClient(server)) }
        #expect(clients.allSatisfy { $0.flags & Self.flag != 0 })
    }

    @Test func `NBD_OPT_EXPORT_NAME tells the same`() throws {
        for (limit, flags) in [(1, 0), (16, Self.flag)] as [(Int, UInt16)] {
            let server = try server(limit: limit)
            let wire = try WireClient(server)
            try wire.greet()
            wire.send(WireOption.encoded(1))
            let answer = try wire.receive(10)
            #expect(answer.integer(at: 8, UInt16.self).map { $0 & Self.flag } == flags)
        }
    }
}
