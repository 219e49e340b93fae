// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Disks that are much larger than what is stored of them.
@Suite(.fewAtATime)
struct LargeImageTests {
    private static let gibibyte = 1 << 30

    /// Where to write in a large disk: at the borders of L2 tables, beyond 2 TiB, where sector numbers need more than 32
    /// bits, and at the end.
    private static func places(_ recipe: ImageRecipe) -> [Int] {
        [0, recipe.l2Coverage, 3 * recipe.l2Coverage, 1 << 41, 1 << 41 | 5 << 30, recipe.size - 4096]
            .filter { $0 + 4096 <= recipe.size }
    }

    @Test(arguments: [(14, 1), (16, 2), (16, 3072), (21, 4096)], [("0.10", false), ("1.1", true), ("0.10", true)])
    func `sectors at the borders of L2 tables and beyond 2 TiB are read as QEMU reads them`(
        _ geometry: (clusterBits: Int, gibibytes: Int), _ kind: (compat: String, isEncrypted: Bool)
    )
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let recipe = ImageRecipe(
            clusterBits: geometry.clusterBits, compat: kind.compat, isEncrypted: kind.isEncrypted,
            size: geometry.gibibytes * Self.gibibyte)
        let image = try await ImageMaker(directory: directory).empty(recipe)
        var commands: [String] = []
        for place in Self.places(recipe) {
            let start = max(0, place - 4096)
            let bytes = DiskContents(mark: 8).bytes(at: start, count: min(8192, recipe.size - start), .plain)
            let slice = try directory.write("slice-\(place)", bytes)
            commands.append("write -s \(slice) \(start) \(bytes.count)")
        }
        try await image.io(commands)
        try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
            server in
            let client = try LibNBDClient(server.uri)
            #expect(client.size == recipe.size)
            for place in Self.places(recipe) {
                let start = max(0, place - 4096)
                let expected = DiskContents(mark: 8).bytes(at: start, count: min(8192, recipe.size - start), .plain)
                #expect(try client.read(expected.count, at: start) == expected, "at \(place)")
                // The neighbourhood holds nothing.
                if place >= 1 << 20, place < recipe.size - (1 << 20) {
                    let around = try client.read(1 << 20, at: place - 1 << 19)
                    #expect(around.filter { $0 != 0 }.count == expected.filter { $0 != 0 }.count)
                }
            }
        }
    }

    @Test func `a sparse image of 1 TiB opens as fast as a small one and needs as little memory`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ImageMaker(directory: directory)
        var times: [Duration] = []
        for (name, size) in [("small", 1 << 20), ("large", 1 << 40)] {
            let image = try await maker.empty(ImageRecipe(isEncrypted: true, size: size), name: name)
            try await image.io(["write -P 1 0 64k", "write -P 2 \(size - 65536) 64k"])
            let start = ContinuousClock.now
            try await ServerUnderTest.run(
                image.serveArguments + ["--socket", directory.file("s")], in: directory
            ) { server in
                times.append(ContinuousClock.now - start)
                let client = try LibNBDClient(server.uri)
                #expect(try client.read(65536, at: size - 65536) == Data(repeating: 2, count: 65536))
                #expect(try server.residentMemory(highest: true) < 64 << 20)
            }
        }
        #expect(times[1] < times[0] + .seconds(1), "small \(times[0]), large \(times[1])")
    }

    @Test func `memory stays below 64 MiB while 64 connections read`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let recipe = ImageRecipe(isEncrypted: true, size: 44 << 20)
        let image = try await ImageMaker(directory: directory).mixed(recipe)
        let oracle = try await image.oracle(in: directory)
        try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
            server in
            let comparison = Comparison(server: server, oracle: oracle, recipe: recipe)
            let clients = try (0..<64).map { _ in try LibNBDClient(server.uri) }
            let plan = ReadPlan(size: oracle.count, recipe: recipe)
            let requests = (0..<64).map { index in
                // One in eight asks for as much as it may at once.
                index % 8 == 0 ? plan.whole(32 << 20) : plan.random(40, seed: UInt64(index))
            }
            try LibNBDClient.read(requests, over: clients, inFlight: 4) { request, data in
                try comparison.expectEqual(data, request)
            }
            let highest = try server.residentMemory(highest: true)
            #expect(highest < 64 << 20, "\(highest) bytes")
        }
    }
}
