// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import TestSupport

/// Dirty bitmaps that QEMU has written, as `qemu:dirty-bitmap:NAME`.
@Suite(.fewAtATime)
struct BitmapShapeTests {
    struct Recipe: Sendable, CustomStringConvertible {
        let kind: ShapeLayer.Kind
        /// In bytes.
        let clusterSize: Int
        /// In bytes.
        let granularity: Int
        var options: [String] = []

        var description: String { "\(kind), clusters of \(clusterSize), bits of \(granularity) bytes, \(options)" }

        static let matrix =
            [512, 65536, 2 << 20].flatMap { cluster in
                [512, 65536, 4 << 20].map { Recipe(kind: .qcow2, clusterSize: cluster, granularity: $0) }
            } + [
                Recipe(kind: .qcow2, clusterSize: 4096, granularity: 1 << 31),
                Recipe(kind: .qcow2AES, clusterSize: 65536, granularity: 65536),
                Recipe(kind: .qcow2LUKS, clusterSize: 4096, granularity: 4096),
                Recipe(kind: .qcow2LUKS, clusterSize: 65536, granularity: 512, options: ["extended_l2=on"]),
                Recipe(kind: .qcow2, clusterSize: 65536, granularity: 1024, options: ["data_file=data.raw"]),
            ]
    }

    @Test(arguments: Recipe.matrix)
    func `a bitmap says what it says to QEMU`(_ recipe: Recipe) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let size = 12 << 20 | 1536
        var layer = try await maker.create(
            recipe.kind, "image", size: size, options: ["cluster_size=\(recipe.clusterSize)"] + recipe.options)
        if recipe.options.contains("data_file=data.raw") { layer.dataFile = directory.file("data.raw") }
        let chain = ShapeChain(layers: [layer])
        try await bitmap(chain, "all", "--add", "--granularity", "\(recipe.granularity)")
        try await bitmap(chain, "tuesday's changes", "--add", "--granularity", "\(recipe.granularity)")
        var generator = SeededGenerator(seed: UInt64(recipe.granularity + recipe.clusterSize))
        var writes = (0..<20).map { _ in
            let offset = generator.number(below: size / 512) * 512
            return "write -P 5 \(offset) \(min(size - offset, (1 + generator.number(below: 100)) * 512))"
        }
        writes += ["write -P 6 0 512", "write -P 6 \(size - 512) 512", "write -z 2M 1M", "discard 4M 64k"]
        try await chain.io(writes)
        try await bitmap(chain, "all", "--disable")
        try await chain.io(["write -P 7 8M 1M"])
        // Bits that are all ones, and none, and those of two others.
        try await bitmap(chain, "none", "--add")
        try await bitmap(chain, "merged", "--add", "--granularity", "65536")
        try await bitmap(chain, "merged", "--merge", "all")
        try await chain.io(["write -P 8 0 \(size)"])
        try await compare(chain, ["all", "tuesday's changes", "merged"], directory)
    }

    @Test(arguments: [1 << 20, 5 << 20 | 512])
    func `a bitmap follows an image that is resized`(_ size: Int) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let chain = try await simple(directory)
        try await Tool.succeed("qemu-img", ["resize", "-q", "--shrink", "-f", "qcow2", chain.path, "\(size)"])
        try await compare(chain, ["b"], directory)
    }

    @Test func `bitmaps of a large disk cost no more than what is asked of them`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let chain = ShapeChain(layers: [try await maker.create(.qcow2, "image", size: 4 << 40)])
        try await bitmap(chain, "b", "--add", "--granularity", "65536")
        try await chain.io(["write -P 1 1T 64k", "write -P 1 3T 128k", "write -z 2T 1G"])
        try await compare(chain, ["b"], directory)
    }

    @Test func `a bitmap that was in use is not offered, and refused by name when it is asked for`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let chain = try await simple(directory)
        try await bitmap(chain, "good", "--add")
        try setFlags(of: chain.path, 1)
        let serve = ["serve", chain.path, "--socket", directory.file("s")]
        try await ServerUnderTest.run(serve, in: directory) { server in
            try server.expect(try await chain.oracle(in: directory))
            #expect(try await contexts(server) == ["good"])
            let errors = try server.errors
            for part in ["'b'", "not closed properly", "qemu-img bitmap --remove"] { #expect(errors.contains(part)) }
        }
        try await Program.expectEnd(
            serve + ["--bitmap", "b"], status: 65, saying: "'b'", "not closed properly",
            "qemu-img bitmap --remove -f qcow2 IMAGE b", "in a copy")
        try await Program.expectEnd(serve + ["--bitmap", "c"], status: 64, saying: "c")
        // What the sentence says helps.
        try await bitmap(chain, "b", "--remove")
        try await ServerUnderTest.run(serve + ["--bitmap", "good"], in: directory) { server in
            let offered = try await contexts(server)
            #expect(offered == ["good"])
        }
    }

    @Test
    func `bitmaps that are out of date, and those of a damaged directory, leave the disk readable, with a warning`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let chain = try await simple(directory)
        let oracle = try await chain.oracle(in: directory)
        let serve = ["serve", chain.path, "--socket", directory.file("s")]
        let editor = Qcow2Editor(path: chain.path)
        let directoryOffset = Int(try editor.long(at: try extensionPlace(of: chain.path) + 16))
        // The length of the name.
        try editor.set(UInt16(0), at: directoryOffset + 18)
        try await ServerUnderTest.run(serve, in: directory) { server in
            try server.expect(oracle)
            #expect(try await contexts(server) == [])
            #expect(try server.errors.contains("name_size"))
        }
        try editor.set(UInt64(0), at: 88)
        try await ServerUnderTest.run(serve, in: directory) { server in
            try server.expect(oracle)
            #expect(try await contexts(server) == [])
            #expect(try server.errors.contains("does not know bitmaps"))
        }
    }

    // MARK: Helpers

    /// An image of 4 MiB with an enabled bitmap "b".
    private func simple(_ directory: TemporaryDirectory) async throws -> ShapeChain {
        let maker = ShapeMaker(directory: directory)
        let chain = ShapeChain(layers: [try await maker.create(.qcow2, "image", size: 4 << 20)])
        try await bitmap(chain, "b", "--add", "--granularity", "512")
        try await chain.io([try maker.write(0, 70_144, mark: 1), "write -P 1 900k 3k", "write -P 1 3M 1M"])
        return chain
    }

    /// Runs `qemu-img bitmap` on the image.
    private func bitmap(_ chain: ShapeChain, _ name: String, _ options: String...) async throws {
        try await Tool.succeed("qemu-img", ["bitmap"] + options + chain.objectArguments + [chain.name, name])
    }

    /// The bitmaps that are offered.
    private func contexts(_ server: ServerUnderTest) async throws -> [String] {
        let prefix = "qemu:dirty-bitmap:"
        return try await Tool.succeed("nbdinfo", ["--list", server.uri]).split(separator: "\n")
            .map { $0.trimmingCharacters(in: .whitespaces) }.filter { $0.hasPrefix(prefix) }
            .map { String($0.dropFirst(prefix.count)) }.sorted()
    }

    private func compare(_ chain: ShapeChain, _ names: [String], _ directory: TemporaryDirectory) async throws {
        try await ServerUnderTest.run(
            ["serve", chain.path, "--no-passphrase-check", "--socket", directory.file("s")] + chain.ringArguments,
            in: directory
        ) { server in
            let offered = try await contexts(server)
            for name in names {
                #expect(offered.contains(name))
                let map = try await BlockMap.nbdinfo(server.uri, "qemu:dirty-bitmap:\(name)")
                try await QEMUServer.run(
                    chain.objectArguments + ["-B", name, chain.name], in: directory
                ) { qemu in
                    let expected = try await BlockMap.nbdinfo(qemu.uri, "qemu:dirty-bitmap:\(name)")
                    #expect(map == expected, "\(name)")
                    #expect(map.runs.contains { $0.value == 1 })
                }
            }
        }
    }

    /// Where the data of the bitmaps extension is.
    private func extensionPlace(of path: String) throws -> Int {
        let editor = Qcow2Editor(path: path)
        var place = Int(try editor.word(at: 100))
        while true {
            let type = try editor.word(at: place)
            try #require(type != 0)
            if type == 0x2385_2875 { return place + 8 }
            place += 8 + (Int(try editor.word(at: place + 4)) + 7) / 8 * 8
        }
    }

    /// Sets the flags of the first bitmap.
    private func setFlags(of path: String, _ flags: UInt32) throws {
        let editor = Qcow2Editor(path: path)
        try editor.set(flags, at: Int(try editor.long(at: try extensionPlace(of: path) + 16)) + 12)
    }
}
