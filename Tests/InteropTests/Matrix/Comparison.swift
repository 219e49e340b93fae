// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Compares what a server serves with what QEMU reads from the image.
struct Comparison {
    let server: ServerUnderTest
    let oracle: Data
    let recipe: ImageRecipe

    private var plan: ReadPlan { ReadPlan(size: oracle.count, recipe: recipe) }

    /// All of these, and the tools, over an image that has a marker.
    func allClients(in directory: TemporaryDirectory) async throws {
        try libnbd()
        try parallelConnections()
        try blockStatus()
        try oldClients()
        try await ClientTools(server: server, oracle: oracle, directory: directory).readAll(
            marker: ImageMaker.marker, at: ImageMaker.markerCluster * recipe.clusterSize, count: recipe.clusterSize)
    }

    /// The whole disk in requests of several sizes, 200 odd ones and the borders of all structures.
    func libnbd() throws {
        let client = try LibNBDClient(server.uri)
        #expect(client.size == oracle.count)
        var requests = plan.whole(32 << 20) + plan.whole(1 << 20) + plan.whole(1_000_003)
        if oracle.count < 16 << 20 { requests += plan.whole(4096) + plan.whole(9973) }
        requests += plan.borders + plan.random(200, seed: UInt64(recipe.clusterBits))
        for request in requests { try expectEqual(try client.read(request.count, at: request.offset), request) }
    }

    /// What is said to be zeros is; the extents follow each other and cover the disk.
    func blockStatus() throws {
        let client = try LibNBDClient(server.uri, contexts: ["base:allocation"])
        var position = 0
        for status in try client.blockStatus("base:allocation", 0..<oracle.count) {
            try #require(status.offset == position && status.length > 0)
            position += status.length
            try #require(position <= oracle.count && status.flags <= 3 && status.flags != 1)
            guard status.flags & 2 != 0 else { continue }
            let isZero = oracle[status.offset..<position] == Data(count: status.length)
            #expect(isZero, "the bytes from \(status.offset) to \(position) are not zeros")
        }
        #expect(position == oracle.count)
    }

    /// Four connections at once, with eight reads in flight on each.
    func parallelConnections() throws {
        let clients = try (0..<4).map { _ in try LibNBDClient(server.uri) }
        let requests = (1...4).map { plan.random(100, seed: 1000 * UInt64($0) + UInt64(recipe.clusterBits)) }
        var replies = 0
        try LibNBDClient.read(requests, over: clients, inFlight: 8) { request, data in
            replies += 1
            try expectEqual(data, request)
        }
        #expect(replies == 400)
    }

    /// Clients that know no more than `NBD_OPT_EXPORT_NAME`, with and without the 124 zeros.
    func oldClients() throws {
        for flags: LibNBDClient.HandshakeFlags in [[], .noZeroes, .fixedNewstyle] {
            let client = try LibNBDClient(server.uri, flags: flags)
            #expect(client.size == oracle.count)
            #expect(client.protocolName == (flags.contains(.fixedNewstyle) ? "newstyle-fixed" : "newstyle"))
            let request = LibNBDClient.Request(offset: 12_345, count: min(700_001, oracle.count - 12_345))
            try expectEqual(try client.read(request.count, at: request.offset), request)
        }
    }

    func expectEqual(_ data: Data, _ request: LibNBDClient.Request) throws {
        let difference = Difference.describe(
            data, oracle[request.offset..<(request.offset + request.count)], at: request.offset)
        try #require(difference == nil)
    }
}
