// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Internal snapshots; the disk that QEMU goes back to is what must be served.
@Suite(.fewAtATime)
struct SnapshotShapeTests {
    struct Recipe: Sendable, CustomStringConvertible {
        var kind = ShapeLayer.Kind.qcow2
        var options: [String] = []
        /// The disk has another size in each snapshot.
        var isResized = true
        var hasBacking = false

        var description: String {
            let parts = [
                kind.rawValue, options.joined(separator: " "), isResized ? "resized" : "",
                hasBacking ? "over a backing file" : "",
            ]
            return parts.filter { !$0.isEmpty }.joined(separator: ", ")
        }

        static let matrix = [
            Recipe(), Recipe(kind: .qcow2AES), Recipe(kind: .qcow2LUKS),
            Recipe(options: ["compat=0.10"], isResized: false),
            Recipe(kind: .qcow2AES, options: ["compat=0.10", "cluster_size=512"], isResized: false),
            Recipe(kind: .qcow2LUKS, options: ["cluster_size=4096", "refcount_bits=8"], hasBacking: true),
            Recipe(kind: .qcow2AES, options: ["extended_l2=on", "cluster_size=32k"], hasBacking: true),
            Recipe(kind: .qcow2LUKS, options: ["extended_l2=on", "compression_type=zstd"]),
        ]
    }

    /// Names as people give them; ids are 1, 2 and 3.
    private static let names = ["first", "before upgrade", "größe/☃"]

    @Test(arguments: Recipe.matrix)
    func `every snapshot is served as QEMU goes back to it, whatever came after`(_ recipe: Recipe) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let chain = try await make(recipe, maker)
        var oracles: [Data] = []
        for name in Self.names { oracles.append(try await goBack(chain, to: name, directory)) }
        let current = try await chain.oracle(in: directory)
        if recipe.isResized { #expect(Set(oracles.map(\.count) + [current.count]).count == 4) }
        let arguments = ["serve", chain.path, "--socket", directory.file("s")] + chain.ringArguments
        try await ServerUnderTest.run(arguments + ["--exports", "all"], in: directory) { server in
            let exports = try server.exports()
            try server.expect(current)
            for (index, name) in Self.names.enumerated() {
                try server.expect(oracles[index], at: "snapshot/\(name)")
                let description = try #require(exports["snapshot/\(name)"])
                #expect(description.contains("snapshot \(name) (id \(index + 1))"), "\(description)")
            }
        }
        for (choice, oracle) in [("before upgrade", oracles[1]), ("3", oracles[2])] {
            try await ServerUnderTest.run(arguments + ["--snapshot", choice], in: directory) { server in
                try server.expect(oracle)
                try Comparison(server: server, oracle: oracle, recipe: ImageRecipe(size: oracle.count))
                    .parallelConnections()
            }
        }
    }

    @Test(arguments: [ShapeLayer.Kind.qcow2, .qcow2AES, .qcow2LUKS])
    func `a snapshot is served as qemu-nbd serves it`(_ kind: ShapeLayer.Kind) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let chain = try await make(Recipe(kind: kind, isResized: false), ShapeMaker(directory: directory))
        for name in Self.names.prefix(2) {
            let oracle = try await chain.oracle(in: directory, snapshot: name)
            try await ServerUnderTest.run(
                ["serve", chain.path, "--socket", directory.file("s"), "--snapshot", name] + chain.ringArguments,
                in: directory
            ) { server in try server.expect(oracle) }
        }
    }

    @Test func `a snapshot that is not there is refused with the names of those that are`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let chain = try await make(Recipe(), ShapeMaker(directory: directory))
        for option in [["--snapshot", "none"], ["--exports", "snapshot/none"]] {
            try await Program.expectRefusal(
                ["serve", chain.path, "--socket", directory.file("s")] + option, status: 64,
                saying: "no snapshot none", "first, before upgrade")
        }
        let plain = try HostileImage().write(to: directory.file("plain"))
        try await Program.expectRefusal(
            ["serve", plain, "--socket", directory.file("s"), "--snapshot", "1"], status: 64, saying: "it has none")
        for other in [["-f", "raw"], ["-f", "raw", "--exports", "snapshot/1"]] {
            try await Program.expectRefusal(
                ["serve", plain, "--socket", directory.file("s"), "--snapshot", "1"] + other, status: 64,
                saying: "no snapshot 1")
        }
    }

    @Test func `snapshots of the same name, and without one, are told apart by their ids`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        var image = HostileImage()
        let entries = [("1", "a"), ("2", "a"), ("3", ""), ("4", "b")]
        image.snapshotCount = UInt32(entries.count)
        image.snapshotTable = entries.flatMap { HostileImage.snapshot(id: $0.0, name: $0.1) }
        let path = try image.write(to: directory.file("image"))
        try await ServerUnderTest.run(
            ["serve", path, "--socket", directory.file("s"), "--exports", "all"], in: directory
        ) { server in
            let names = try server.exports().keys.sorted()
            #expect(names == ["", "snapshot/b", "snapshot/id:1", "snapshot/id:2", "snapshot/id:3"])
        }
        for choice in ["a", "2", "id:2", "3", "b", "4"] {
            try await ServerUnderTest.run(
                ["serve", path, "--socket", directory.file("s"), "--snapshot", choice], in: directory
            ) { server in try server.expect(Data(count: 1 << 20)) }
        }
    }

    /// Three snapshots with different contents, and more contents after them.
    private func make(_ recipe: Recipe, _ maker: ShapeMaker) async throws -> ShapeChain {
        var size = 3 << 20
        var chain = ShapeChain(layers: [])
        var backing: (name: String, format: String)?
        if recipe.hasBacking {
            chain.layers = [try await maker.create(.luks, "base", size: 2 << 20)]
            try await chain.io([try maker.write(0, 2 << 20, mark: 0xBB)])
            backing = ("base", "luks")
        }
        chain.layers.insert(
            try await maker.create(recipe.kind, "image", size: size, options: recipe.options, backing: backing), at: 0)
        let sizes = [5 << 20 | 512, 1 << 20, 4 << 20]
        for (index, name) in Self.names.enumerated() {
            try await chain.io(
                try [maker.write(0, 40_960, mark: UInt8(index))]
                    + maker.mixture(
                        recipe.kind, size: size, clusterSize: 65536, granularity: 512, seed: UInt64(index + 3)))
            try await qemuImg(chain, ["snapshot", "-q", "-c", name])
            guard recipe.isResized else { continue }
            try await qemuImg(chain, ["resize", "-q", "--shrink"], ["\(sizes[index])"])
            size = sizes[index]
        }
        try await chain.io([try maker.write(0, size / 2, mark: 0x99), "write -z \(size / 2) 65536"])
        return chain
    }

    /// The disk after `qemu-img snapshot -a` in a copy.
    private func goBack(_ chain: ShapeChain, to name: String, _ directory: TemporaryDirectory) async throws -> Data {
        let copy = directory.file("copy")
        try? FileManager.default.removeItem(atPath: copy)
        try FileManager.default.copyItem(atPath: chain.path, toPath: copy)
        var changed = chain
        changed.layers[0] = ShapeLayer(
            kind: chain.layers[0].kind, path: copy, passphrasePath: chain.layers[0].passphrasePath)
        try await qemuImg(changed, ["snapshot", "-q", "-a", name])
        return try await changed.oracle(in: directory)
    }

    private func qemuImg(_ chain: ShapeChain, _ arguments: [String], _ last: [String] = []) async throws {
        try await Tool.succeed(
            "qemu-img", arguments.prefix(1) + chain.objectArguments + arguments.dropFirst() + [chain.name] + last)
    }
}
