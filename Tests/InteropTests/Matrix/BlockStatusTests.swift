// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What clients are told of the blocks of a disk, compared with qemu-nbd and with the files themselves.
@Suite(.fewAtATime)
struct BlockStatusTests {
    @Test(arguments: ImageRecipe.matrix)
    func `every kind of image has the block status that qemu-nbd gives it`(_ recipe: ImageRecipe) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await compare(try await ImageMaker(directory: directory).mixed(recipe), directory)
    }

    @Test(arguments: ["metadata", "falloc", "full"], [false, true])
    func `preallocated images are holes where their files are, unless they are encrypted`(
        _ mode: String, _ isEncrypted: Bool
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let recipe = ImageRecipe(isEncrypted: isEncrypted, size: 16 << 20, extra: ["preallocation=\(mode)"])
        let image = try await ImageMaker(directory: directory).empty(recipe)
        try await image.io(["write -P 1 1M 64k", "write -P 0 3M 64k", "write -P 2 16712192 65024", "write -z 5M 1M"])
        let map = try await compare(image, directory)
        let stored = map.runs.filter { $0.value == BlockMap.zero }.map(\.range.count).reduce(0, +)
        #expect(isEncrypted ? stored == 0 : stored > 14 << 20)
    }

    struct Chain: Sendable, CustomStringConvertible {
        /// The top first.
        let kinds: [ShapeLayer.Kind]
        /// Of each layer, in MiB.
        let sizes: [Int]
        var options: [String] = []

        var description: String {
            (zip(kinds, sizes).map { "\($0.0) \($0.1)M" } + options).joined(separator: ", ")
        }

        static let matrix: [Chain] = [
            Chain(kinds: [.raw], sizes: [4]), Chain(kinds: [.luks], sizes: [4]),
            Chain(kinds: [.qcow], sizes: [4]), Chain(kinds: [.qcowAES], sizes: [4]),
            Chain(kinds: [.qcow2LUKS], sizes: [4]), Chain(kinds: [.qcow2LUKS], sizes: [4], options: ["extended_l2=on"]),
            Chain(kinds: [.qcow2], sizes: [4], options: ["extended_l2=on"]),
            Chain(kinds: [.qcow2, .raw], sizes: [4, 4]), Chain(kinds: [.qcow2, .raw], sizes: [4, 2]),
            Chain(kinds: [.qcow2, .raw], sizes: [2, 4]), Chain(kinds: [.qcow2, .luks], sizes: [4, 3]),
            Chain(kinds: [.qcow2, .qcow2, .raw], sizes: [4, 4, 4]),
            Chain(kinds: [.qcow2, .qcow2, .raw], sizes: [5, 3, 1]),
            Chain(kinds: [.qcow2, .qcow2, .qcow2], sizes: [4, 2, 3]),
            Chain(kinds: [.qcow2AES, .qcow2LUKS, .qcow2], sizes: [4, 4, 3]),
            Chain(kinds: [.qcow2, .qcow2AES, .qcow, .raw], sizes: [4, 3, 2, 1]),
            Chain(kinds: [.qcow, .raw], sizes: [4, 3]), Chain(kinds: [.qcowAES, .qcow2], sizes: [3, 2]),
            Chain(kinds: [.qcow2, .qcow2, .qcow2], sizes: [4, 2, 3], options: ["extended_l2=on"]),
            Chain(kinds: [.qcow2, .raw], sizes: [4, 3], options: ["cluster_size=512"]),
            Chain(kinds: [.qcow2, .qcow2], sizes: [8, 6], options: ["cluster_size=2M"]),
        ]
    }

    @Test(arguments: Chain.matrix)
    func `chains have the block status and the depths that qemu-nbd gives them`(_ recipe: Chain) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await compare(try await make(recipe, ShapeMaker(directory: directory)), directory)
    }

    @Test(
        arguments: [ShapeLayer.Kind.qcow2, .qcow2AES, .qcow2LUKS],
        [[], ["data_file_raw=on"], ["preallocation=metadata"], ["cluster_size=4096"]])
    func `images with a data file have the holes of that file`(_ kind: ShapeLayer.Kind, _ options: [String])
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        var layer = try await maker.create(
            kind, "image", size: 4 << 20, options: ["data_file=data.raw"] + options)
        layer.dataFile = directory.file("data.raw")
        let chain = ShapeChain(layers: [layer])
        try await chain.io(
            try [maker.write(3 << 18, 65536, mark: 1), maker.write(0, 4096, mark: 2)]
                + maker.mixture(kind, size: 4 << 20, clusterSize: 65536, granularity: 512, seed: 4, count: 8))
        try await compare(chain, directory)
    }

    @Test(arguments: [ShapeLayer.Kind.qcow2, .qcow2AES])
    func `a snapshot has a block status of its own`(_ kind: ShapeLayer.Kind) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let chain = ShapeChain(layers: [try await maker.create(kind, "image", size: 4 << 20)])
        try await chain.io([try maker.write(0, 1 << 20, mark: 1), "write -z 2M 1M"])
        try await Tool.succeed(
            "qemu-img", ["snapshot", "-q", "-c", "before"] + chain.objectArguments + [chain.name])
        try await chain.io(["write -z 0 512k", try maker.write(3 << 20, 65536, mark: 2)])
        try await ServerUnderTest.run(
            ["serve", chain.path, "--snapshot", "before", "--socket", directory.file("s")] + chain.ringArguments,
            in: directory
        ) { server in
            try await QEMUServer.run(
                chain.objectArguments + ["-A", "-l", "snapshot.name=before", chain.name], in: directory
            ) { qemu in
                let oracle = try await chain.oracle(in: directory, snapshot: "before")
                try await compare(server.uri, qemu.uri, oracle, mayRefine: !chain.layers[0].kind.isEncrypted)
            }
        }
    }

    @Test(arguments: [ShapeLayer.Kind.qcow2AES, .qcow2LUKS, .luks, .qcowAES, .qcow2])
    func `with --detect-zeroes, blocks of 4 KiB that read as zeros are zeros, whatever is stored`(
        _ kind: ShapeLayer.Kind
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let size = 5 << 20 | 1536
        let chain = ShapeChain(layers: [try await maker.create(kind, "image", size: size)])
        try await chain.io(
            try [maker.write(0, size, mark: 1), "write -P 0 65536 8192", "write -P 0 200704 300032"]
                + ["write -P 0 2097152 2097152", "write -P 0 \(size - 1024) 1024", "write -P 0 0 512"])
        let oracle = try await chain.oracle(in: directory)
        let serve = ["serve", chain.path, "--no-passphrase-check", "--socket", directory.file("s")]
        var stored = BlockMap()
        try await ServerUnderTest.run(serve + chain.ringArguments, in: directory) { server in
            stored = try await BlockMap.nbdinfo(server.uri, "base:allocation")
        }
        try await ServerUnderTest.run(serve + chain.ringArguments + ["--detect-zeroes"], in: directory) { server in
            let map = try await BlockMap.nbdinfo(server.uri, "base:allocation")
            #expect(map == stored.detectingZeros(in: oracle))
            #expect(map.runs.contains { $0.value == BlockMap.zero && $0.range.count >= 2 << 20 })
            try server.expect(oracle)
            try await ClientTools(server: server, oracle: oracle, directory: directory).nbdcopy()
        }
    }

    // MARK: Comparing

    @discardableResult
    private func compare(_ image: TestImage, _ directory: TemporaryDirectory) async throws -> BlockMap {
        try await compare(
            serve: image.serveArguments, files: [image.path],
            image: image.objectArguments + ["--image-opts", image.options],
            isEncrypted: image.passphrasePath != nil, oracle: try await image.oracle(in: directory), directory)
    }

    @discardableResult
    private func compare(_ chain: ShapeChain, _ directory: TemporaryDirectory) async throws -> BlockMap {
        try await compare(
            serve: ["serve", chain.path, "--no-passphrase-check"] + chain.formatArguments + chain.ringArguments,
            files: chain.files, image: chain.objectArguments + [chain.name],
            isEncrypted: chain.layers.allSatisfy(\.kind.isEncrypted), oracle: try await chain.oracle(in: directory),
            directory)
    }

    /// - Parameters:
    ///   - files: what holds the clusters of each layer, the top first.
    ///   - image: arguments of QEMU's tools.
    ///   - isEncrypted: every layer is: nothing that is stored may count as zeros.
    private func compare(
        serve: [String], files: [String], image: [String], isEncrypted: Bool, oracle: Data,
        _ directory: TemporaryDirectory
    ) async throws -> BlockMap {
        for file in files { try await SparseFile.rewrite(file) }
        var map = BlockMap()
        let exact = try await BlockMap.exact(image, files: files)
        try await ServerUnderTest.run(serve + ["--socket", directory.file("s")], in: directory) { server in
            try await QEMUServer.run(["-A"] + image, in: directory) { qemu in
                map = try await compare(server.uri, qemu.uri, oracle, mayRefine: !isEncrypted)
            }
        }
        #expect(map == exact, "the files themselves say otherwise")
        return map
    }

    /// - Parameter mayRefine: zeros may be found where QEMU says data: it looks for holes under stored clusters only when
    ///   it takes an image for one with preallocated metadata.
    @discardableResult
    private func compare(_ uri: String, _ qemu: String, _ oracle: Data, mayRefine: Bool) async throws -> BlockMap {
        let map = try await BlockMap.nbdinfo(uri, "base:allocation")
        let expected = try await BlockMap.nbdinfo(qemu, "base:allocation")
        #expect(map.size == oracle.count && expected.size == oracle.count)
        for (range, mine, other) in map.differences(from: expected) {
            #expect(mayRefine && mine == BlockMap.zero && other == 0, "\(range): \(mine), by QEMU \(other)")
        }
        for run in map.runs where run.value & BlockMap.zero != 0 {
            #expect(oracle[run.range].allSatisfy { $0 == 0 }, "\(run.range) is not zeros")
        }
        let depths = try await BlockMap.nbdinfo(uri, "qemu:allocation-depth")
        #expect(depths == (try await BlockMap.nbdinfo(qemu, "qemu:allocation-depth")), "depths")
        #expect(try await BlockMap.qemuImg(["-f", "raw", uri]) == map, "qemu-img map sees what nbdinfo sees")
        return map
    }

    /// Something in every layer, on clusters of its own and on those of others.
    private func make(_ recipe: Chain, _ maker: ShapeMaker) async throws -> ShapeChain {
        var chain = ShapeChain(layers: [])
        for (number, kind) in recipe.kinds.enumerated().reversed() {
            let size = recipe.sizes[number] << 20
            let below = chain.layers.first.map { (name: "layer\(number + 1)", format: $0.kind.driver) }
            let layer = try await maker.create(
                kind, "layer\(number)", size: size, options: kind.isQcow2 ? recipe.options : [], backing: below)
            chain.layers.insert(layer, at: 0)
            let cluster = 65536
            let isLarge = recipe.options.contains("cluster_size=2M")
            var commands = [
                try maker.write(number * cluster, 3 * cluster, mark: UInt8(number + 1)),
                try maker.write(size - 2 * cluster + 512, 1024, mark: UInt8(number + 1)),
            ]
            if kind.isQcow2 {
                commands += [
                    "write -z \((5 + number) * cluster) \(2 * cluster)", "discard \((6 + number) * cluster) \(cluster)",
                ]
                if !isLarge {
                    commands.append("write -c -P 7 \((size / cluster - 4) * cluster) \(cluster)")
                }
            }
            let seed = UInt64(number + 5)
            commands += try maker.mixture(
                kind, size: size, clusterSize: isLarge ? 2 << 20 : cluster, granularity: 4096, seed: seed, count: 6)
            try await chain.io(commands)
        }
        return chain
    }
}

extension ShapeChain {
    /// What `nbdecrypt serve` must be told: a format that it does not guess, or one that the image cannot name.
    fileprivate var formatArguments: [String] {
        guard let first = layers.first else { return [] }
        if first.kind == .raw { return ["-f", "raw"] }
        return first.kind.driver == "qcow" && layers.count > 1 ? ["--backing-format", layers[1].kind.driver] : []
    }

    /// What holds the clusters of each layer.
    fileprivate var files: [String] { layers.map { $0.dataFile ?? $0.path } }
}
