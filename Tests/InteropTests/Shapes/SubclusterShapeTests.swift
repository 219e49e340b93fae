// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Extended L2 entries: clusters of which parts are stored, zero, or left to the layer below.
@Suite(.fewAtATime)
struct SubclusterShapeTests {
    struct Recipe: Sendable, CustomStringConvertible {
        let kind: ShapeLayer.Kind
        let clusterBits: Int
        let hasBacking: Bool
        var isZstd = false

        var description: String {
            "\(kind.rawValue), \(1 << (clusterBits - 10)) KiB\(isZstd ? ", zstd" : "")"
                + (hasBacking ? ", over a backing file" : "")
        }

        static let matrix =
            [ShapeLayer.Kind.qcow2, .qcow2AES, .qcow2LUKS].flatMap { kind in
                [14, 16, 18].flatMap { bits in
                    [false, true].map { Recipe(kind: kind, clusterBits: bits, hasBacking: $0) }
                }
            } + [
                Recipe(kind: .qcow2, clusterBits: 15, hasBacking: true, isZstd: true),
                Recipe(kind: .qcow2LUKS, clusterBits: 17, hasBacking: true, isZstd: true),
                Recipe(kind: .qcow2AES, clusterBits: 19, hasBacking: false),
                Recipe(kind: .qcow2LUKS, clusterBits: 20, hasBacking: true),
                Recipe(kind: .qcow2LUKS, clusterBits: 21, hasBacking: true),
            ]
    }

    @Test(arguments: Recipe.matrix)
    func `subclusters of every state are read as QEMU reads them`(_ recipe: Recipe) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let cluster = 1 << recipe.clusterBits
        let part = cluster / 32
        // Ends within a cluster, and within a subcluster.
        let size = max(1 << 20, 12 * cluster) + 7 * part + 512
        var chain = ShapeChain(layers: [])
        if recipe.hasBacking {
            let below = size - 3 * cluster
            chain.layers = [try await maker.create(.raw, "base", size: below)]
            try await chain.io([try maker.write(0, below, mark: 0xBB)])
        }
        chain.layers.insert(
            try await maker.create(
                recipe.kind, "image", size: size,
                options: ["extended_l2=on", "cluster_size=\(cluster)"]
                    + (recipe.isZstd ? ["compression_type=zstd"] : []),
                backing: recipe.hasBacking ? ("base", "raw") : nil), at: 0)
        try await chain.io(try commands(maker, cluster, size, recipe.kind))
        let oracle = try await chain.oracle(in: directory)
        try await ServerUnderTest.run(
            ["serve", chain.path, "--socket", directory.file("s")] + chain.ringArguments, in: directory
        ) { server in
            try server.expect(oracle)
            let comparison = Comparison(
                server: server, oracle: oracle, recipe: ImageRecipe(clusterBits: recipe.clusterBits - 5, size: size))
            if oracle.count < 4 << 20 { try comparison.libnbd() }
            try comparison.parallelConnections()
            try comparison.blockStatus()
        }
        let report = try await InfoReport.of(chain.path)
        #expect(report.features?.incompatible.contains("extended L2 entries") == true)
        #expect(report.clusters?.faults == 0 && report.refusal == nil)
        let text = try await Tool.succeed(
            "qemu-img", ["check", "--output", "json"] + chain.objectArguments + [chain.name])
        let counted = try JSONDecoder().decode(QEMUCheck.self, from: Data(text.utf8))
        #expect(report.clusters?.allocated == counted.allocated)
        #expect(report.clusters?.compressed == counted.compressed ?? 0)
    }

    private func commands(
        _ maker: ShapeMaker, _ cluster: Int, _ size: Int, _ kind: ShapeLayer.Kind
    ) throws -> [String] {
        let part = cluster / 32
        return try [
            // One subcluster, the first, the last, one that is not whole.
            maker.write(5 * part, part, mark: 1), maker.write(cluster, part, mark: 2),
            maker.write(3 * cluster - part, part, mark: 3), maker.write(3 * cluster + 7 * part, 512, mark: 4),
            // Every second one; then zeros among them.
        ] + stride(from: 0, to: 32, by: 2).map { try maker.write(4 * cluster + $0 * part, part, mark: 5) } + [
            "write -z \(4 * cluster + 4 * part) \(5 * part)", "write -z -u \(5 * cluster + 3 * part) \(9 * part)",
            "discard \(4 * cluster + 20 * part) \(4 * part)", "write -z \(6 * cluster) \(cluster)",
            "write -c -P 0x33 \(7 * cluster) \(cluster)", "write -c -P 0x34 \(8 * cluster) \(cluster)",
            // Parts of what was compressed, of what was a whole cluster.
            maker.write(8 * cluster + 2 * part, part, mark: 6), maker.write(9 * cluster, cluster, mark: 7),
            "discard \(9 * cluster) \(cluster)", "write -c -P 0x35 \(10 * cluster) \(cluster)",
            maker.write(size - 512, 512, mark: 8),
        ] + maker.mixture(kind, size: size, clusterSize: cluster, granularity: max(512, part), seed: 31)
    }
}
