// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Images whose clusters lie in a file of their own.
@Suite(.fewAtATime)
struct DataFileShapeTests {
    struct Recipe: Sendable, CustomStringConvertible {
        let kind: ShapeLayer.Kind
        var options: [String] = []
        var isAbsolute = false
        var hasBacking = false

        var description: String {
            ([kind.rawValue, isAbsolute ? "absolute name" : "", hasBacking ? "over a backing file" : ""] + options)
                .filter { !$0.isEmpty }.joined(separator: ", ")
        }

        static let matrix =
            [ShapeLayer.Kind.qcow2, .qcow2AES, .qcow2LUKS].flatMap { kind in
                [
                    Recipe(kind: kind), Recipe(kind: kind, options: ["data_file_raw=on"]),
                    Recipe(kind: kind, options: ["preallocation=metadata"]),
                    Recipe(kind: kind, options: ["cluster_size=4096"], hasBacking: true),
                ]
            } + [
                Recipe(kind: .qcow2, options: ["extended_l2=on"], hasBacking: true),
                Recipe(kind: .qcow2LUKS, options: ["extended_l2=on", "cluster_size=16k"]),
                Recipe(kind: .qcow2LUKS, options: ["preallocation=falloc"], isAbsolute: true),
                Recipe(kind: .qcow2, options: ["data_file_raw=on", "preallocation=full"], isAbsolute: true),
            ]
    }

    @Test(arguments: Recipe.matrix)
    func `clusters in a data file are read as QEMU reads them, from its first byte on`(_ recipe: Recipe) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let size = 2 << 20 | 1536
        var chain = ShapeChain(layers: [])
        if recipe.hasBacking {
            chain.layers = [try await maker.create(.qcow2AES, "base", size: 1 << 20)]
            try await chain.io([try maker.write(0, 1 << 20, mark: 0xBB)])
        }
        let data = recipe.isAbsolute ? directory.file("data.raw") : "data.raw"
        chain.layers.insert(
            try await maker.create(
                recipe.kind, "image", size: size, options: ["data_file=\(data)"] + recipe.options,
                backing: recipe.hasBacking ? ("base", "qcow2") : nil), at: 0)
        chain.layers[0].dataFile = directory.file("data.raw")
        // Not the start of the disk: what comes first lies at offset 0 of the data file.
        try await chain.io(
            try [maker.write(3 << 18, 65536, mark: 1), maker.write(0, 65536, mark: 2)]
                + maker.mixture(recipe.kind, size: size, clusterSize: 65536, granularity: 512, seed: 4))
        let oracle = try await chain.oracle(in: directory)
        let arguments = ["serve", chain.path, "--socket", directory.file("s")] + chain.ringArguments
        try await ServerUnderTest.run(arguments, in: directory) { server in
            try server.expect(oracle)
            try Comparison(server: server, oracle: oracle, recipe: ImageRecipe(size: size)).parallelConnections()
        }
        let report = try await InfoReport.of(chain.path)
        #expect(report.dataFile == data)
    }

    @Test func `a data file that is not there, or not complete, is told`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try HostileImage(dataFile: "data.raw").write(to: directory.file("image"))
        let arguments = ["serve", image, "--socket", directory.file("s")]
        try await Program.expectRefusal(arguments, status: 66, saying: "external data file (data.raw) is not there")
        // An empty one does no harm as long as no cluster is in it.
        try directory.write("data.raw", Data())
        try await ServerUnderTest.run(arguments, in: directory) { server in
            try server.expect(Data(count: 1 << 20))
        }
        var nameless = HostileImage()
        nameless.dataFile = []
        try nameless.write(to: image)
        try await Program.expectRefusal(arguments, status: 65, saying: "external data file", "empty")
    }
}
