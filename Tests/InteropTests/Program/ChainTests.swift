// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Images over backing files, each layer with a format, a size and a secret of its own; QEMU's view of the chain is what
/// clients must see.
@Suite(.fewAtATime)
struct ChainTests {
    typealias Kind = ShapeLayer.Kind

    /// Layers, the top first; sizes go up and down.
    struct Recipe: Sendable, CustomStringConvertible {
        let kinds: [Kind]
        /// The sizes of the layers in KiB and a half, the top first.
        let sizes: [Int]
        /// log2 of the cluster sizes of qcow2 layers; the last one is for all that follow.
        var clusterBits = [16]
        var namesAreAbsolute = false

        var description: String {
            let sizes = sizes.map(String.init).joined(separator: "/")
            return "\(kinds.map(\.rawValue).joined(separator: " over ")), \(sizes) KiB"
        }

        static let matrix = [
            Recipe(kinds: [.qcow2, .raw], sizes: [2000, 1000]),
            Recipe(kinds: [.qcow2, .raw], sizes: [1000, 2000], clusterBits: [9]),
            Recipe(kinds: [.qcow2AES, .luks], sizes: [1000, 1500], clusterBits: [12]),
            Recipe(kinds: [.qcow2LUKS, .luks], sizes: [1500, 1000], clusterBits: [14]),
            Recipe(kinds: [.qcow, .qcow2LUKS], sizes: [1500, 1000]),
            Recipe(kinds: [.qcowAES, .qcow2AES, .raw], sizes: [1000, 700, 1500], clusterBits: [13]),
            Recipe(kinds: [.qcow2LUKS, .qcowAES, .luks], sizes: [2000, 500, 1000]),
            Recipe(kinds: [.qcow, .qcowAES, .qcow2AES], sizes: [1200, 900, 1400], clusterBits: [12]),
            Recipe(kinds: [.qcowAES, .qcow, .qcowAES, .qcow2LUKS, .raw], sizes: [900, 1400, 700, 1200, 1000]),
            Recipe(kinds: [.qcow2AES, .qcow2LUKS, .qcow, .raw], sizes: [900, 1800, 600, 1200], clusterBits: [9, 16]),
            Recipe(
                kinds: [.qcow2, .qcow2AES, .qcow2LUKS, .qcow2AES, .luks], sizes: [1800, 1400, 900, 600, 1500],
                clusterBits: [21, 16, 14, 9], namesAreAbsolute: true),
            Recipe(
                kinds: [.qcow2LUKS, .qcow2, .qcowAES, .qcow2AES, .qcow, .qcow2LUKS, .qcow2AES, .luks],
                sizes: [2100, 1700, 1200, 800, 1600, 700, 2300, 1900], clusterBits: [16, 12, 9, 18]),
            Recipe(
                kinds: [.qcow2AES, .qcow2LUKS, .qcow2, .qcow2AES, .qcow2LUKS, .qcow2, .qcow2AES, .raw],
                sizes: [800, 1000, 1200, 1400, 1600, 1800, 2000, 2200], clusterBits: [9, 10, 11, 12, 13, 14, 15]),
        ]
    }

    @Test(arguments: Recipe.matrix)
    func `what is served of a chain is what QEMU reads of it`(_ recipe: Recipe) async throws {
        try await withChain(recipe) { directory, chain in
            let oracle = try await chain.oracle(in: directory)
            #expect(oracle.count == recipe.sizes[0] * 1024 + 512)
            let outcome = try await serve(chain, pins(chain), recipe, directory) { server in
                try server.expect(oracle)
                try Comparison(
                    server: server, oracle: oracle,
                    recipe: ImageRecipe(clusterBits: recipe.clusterBits[0], size: oracle.count)
                ).parallelConnections()
            }
            #expect(!outcome.errors.contains("warning: the image does not say"), "\(outcome.errors)")
            #expect(try await InfoReport.of(chain.path).backingFile != nil)
        }
    }

    @Test(arguments: Recipe.matrix.suffix(3))
    func `every layer is an export of its own`(_ recipe: Recipe) async throws {
        try await withChain(recipe) { directory, chain in
            try await serve(chain, pins(chain) + ["--exports", "all"], recipe, directory) { server in
                let exports = try server.exports()
                #expect(exports.count == chain.layers.count + 1, "\(exports)")
                for (number, layer) in chain.layers.enumerated() {
                    let oracle = try await chain.from(number).oracle(in: directory)
                    try server.expect(oracle, at: "layer/\(number)")
                    let description = try #require(exports["layer/\(number)"])
                    #expect(description.contains((layer.path as NSString).lastPathComponent), "\(description)")
                    #expect(description.contains("decrypted") == layer.kind.isEncrypted, "\(description)")
                }
            }
        }
    }

    @Test func `the secrets of all layers may be given in any order: each layer takes the one that fits`() async throws
    {
        let recipe = Recipe(kinds: [.qcow2LUKS, .qcow2AES, .qcow2LUKS, .luks], sizes: [1500, 1500, 1500, 1500])
        try await withChain(recipe) { directory, chain in
            let oracle = try await chain.oracle(in: directory)
            for arguments in [
                chain.ringArguments,
                Array(
                    chain.layers.reversed().flatMap { layer in
                        layer.passphrasePath.map { ["--key-file", $0] } ?? []
                    }),
            ] {
                try await serve(chain, arguments, recipe, directory) { server in
                    try server.expect(oracle)
                }
            }
        }
    }

    @Test func `a secret can be pinned to a layer, as a passphrase file, a key file and a descriptor`() async throws {
        let recipe = Recipe(kinds: [.qcow2LUKS, .qcow2AES, .luks], sizes: [700, 900, 800])
        try await withChain(recipe) { directory, chain in
            let oracle = try await chain.oracle(in: directory)
            let paths = chain.layers.map { $0.passphrasePath ?? "" }
            let line = try directory.write("line", text: try File.text(paths[0]) + "\n")
            let arguments = [
                "serve", chain.path, "--secret", "0=passphrase-file:\(line)", "--secret", "1=key-file:\(paths[1])",
                "--secret", "2=fd:7", "--socket", directory.file("s"),
            ]
            let script = "exec 7< \(paths[2]); exec \"$@\""
            try await ServerUnderTest.run(
                ["-c", script, "bash", try Program.path] + arguments, program: "/bin/bash", in: directory
            ) { server in try server.expect(oracle) }
            // The others are not tried on a layer that has its own; a layer without takes from the ring, and from there
            // alone.
            for (secrets, refused) in [
                (["--secret", "0=key-file:\(paths[1])"] + chain.ringArguments, 0),
                (
                    ["--secret", "0=key-file:\(paths[0])", "--secret", "1=key-file:\(paths[1])"]
                        + ["--passphrase-file", paths[1]], 2
                ),
            ] {
                let outcome = try await Program.run(
                    ["serve", chain.path, "--socket", directory.file("s")] + secrets)
                let last = try #require(outcome.errors.split(separator: "\n").last)
                #expect(outcome.code == 77 && last.contains("\(chain.layers[refused].path): no keyslot"), "\(last)")
            }
            for wrong in ["0", "0=key-file", "-1=fd:3", "x=fd:3", "0=fd:x", "0=key-file:", "0=plain:abc"] {
                let outcome = try await Program.run(
                    ["serve", chain.path, "--secret=\(wrong)", "--socket", directory.file("s")])
                #expect(outcome.code == 64 && outcome.errors.contains("--secret"), "\(outcome.errors)")
            }
        }
    }

    @Test func `a wrong secret is told with the layer that it is for`() async throws {
        let recipe = Recipe(kinds: [.qcow2, .qcow2LUKS], sizes: [700, 900])
        try await withChain(recipe) { directory, chain in
            let wrong = try directory.write("wrong", text: "wrong")
            try await Program.expectEnd(
                ["serve", chain.path, "--passphrase-file", wrong, "--socket", directory.file("s")], status: 77,
                saying: chain.layers[1].path)
            try await Program.expectEnd(
                ["serve", chain.path, "--socket", directory.file("s")], status: 77, saying: chain.layers[1].path)
        }
    }

    @Test func `a layer of a wrong or unknown format is refused with its number and its name`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        try directory.write("base", DiskContents(mark: 1).bytes(at: 0, count: 1 << 20, .plain))
        for (format, says) in [("qcow2", "not qcow2"), ("luks", "no LUKS header"), ("qcow", "not qcow")] {
            let top = try await maker.create(.qcow2, "top", size: 1 << 20, backing: ("base", format))
            try await Program.expectRefusal(
                ["serve", top.path, "--socket", directory.file("s")], status: 65, saying: "layer 1", "base", says)
        }
        let top = try await maker.create(.qcow2, "top", size: 1 << 20, backing: ("base", "vmdk"))
        try await Program.expectRefusal(
            ["serve", top.path, "--socket", directory.file("s")], status: 65, saying: "(base)", "vmdk")
    }

    @Test func `a chain of 64 images is served, one of 65 is refused`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let contents = DiskContents(mark: 1).bytes(at: 0, count: 1 << 20, .plain)
        try directory.write("0", contents)
        for number in 1..<65 {
            try HostileImage(backing: "\(number - 1)", format: number == 1 ? "raw" : "qcow2").write(
                to: directory.file("\(number)"))
        }
        try await ServerUnderTest.run(
            ["serve", directory.file("63"), "--socket", directory.file("s")], in: directory
        ) { server in try server.expect(contents) }
        try await Program.expectRefusal(
            ["serve", directory.file("64"), "--socket", directory.file("s")], status: 65, saying: "64", "rebase")
    }

    /// Makes the layers from the bottom up and writes to each.
    private func withChain(
        _ recipe: Recipe, _ body: (TemporaryDirectory, ShapeChain) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        var chain = ShapeChain(layers: [])
        for (number, kind) in recipe.kinds.enumerated().reversed() {
            let size = recipe.sizes[number] * 1024 + 512
            let bits = recipe.clusterBits[min(number, recipe.clusterBits.count - 1)]
            let backing = chain.layers.first.map { below in
                (recipe.namesAreAbsolute ? below.path : (below.path as NSString).lastPathComponent, below.kind.driver)
            }
            let layer = try await maker.create(
                kind, "layer-\(number)", size: size, options: kind.isQcow2 ? ["cluster_size=\(1 << bits)"] : [],
                // qemu-img asks for the format, but qcow has no place for it.
                backing: backing)
            chain.layers.insert(layer, at: 0)
            let commands =
                number == recipe.kinds.count - 1
                ? [try maker.write(0, size, mark: 0xF0)]
                : try maker.mixture(
                    kind, size: size, clusterSize: kind.isQcow2 ? 1 << bits : 512, granularity: 512,
                    seed: UInt64(number * 7 + recipe.kinds.count))
            try await chain.io(commands)
        }
        try await body(directory, chain)
    }

    /// A secret for each layer that has one.
    private func pins(_ chain: ShapeChain) -> [String] {
        chain.layers.enumerated().flatMap { number, layer in
            layer.passphrasePath.map { ["--secret", "\(number)=passphrase-file:\($0)"] } ?? []
        }
    }

    @discardableResult
    private func serve(
        _ chain: ShapeChain, _ secrets: [String], _ recipe: Recipe, _ directory: TemporaryDirectory,
        _ body: (ServerUnderTest) async throws -> Void
    ) async throws -> Tool.Outcome {
        var arguments = ["serve", chain.path, "--socket", directory.file("s")] + secrets
        if recipe.namesAreAbsolute { arguments += ["--references", "allow"] }
        // Of the layers below qcow images.
        for (number, pair) in zip(recipe.kinds, recipe.kinds.dropFirst()).enumerated() where !pair.0.isQcow2 {
            arguments += ["--backing-format", "\(number + 1)=\(pair.1.driver)"]
        }
        return try await ServerUnderTest.run(arguments, in: directory, body)
    }
}
