// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Compares what the program serves of a LUKS image with its plaintext.
enum LUKSComparison {
    /// Reads all of the image of this name, and parts of it at odd places, and prints what was compared.
    static func run(_ name: String) async throws {
        let image = try #require(LUKSImagesTrait.images[name], "luks_images.py makes no \(name)")
        let oracle = try File.contents(image.plaintext)
        try #require(oracle.count == image.size && image.size > 0)
        try await serve(image) { server, directory in
            try compare(server, oracle)
            let copied = try await Tool.shell(
                "nbdcopy '\(server.uri)' \(directory.file("copy")); sha256sum \(directory.file("copy"))")
            #expect(copied.hasPrefix(image.sha256), "nbdcopy")
        }
        print("LUKS image \(name): \(image.size) bytes, SHA-256 \(image.sha256) according to \(image.oracle)")
    }

    /// A byte of the oracle that is wrong must be noticed, or the comparisons above are worth nothing.
    static func expectNotice(_ name: String) async throws {
        let image = try #require(LUKSImagesTrait.images[name])
        for place in [0, image.size / 2, image.size - 1] {
            var oracle = try File.contents(image.plaintext)
            oracle[place] ^= 1
            try await serve(image) { server, _ in
                withKnownIssue("byte \(place) of the oracle is wrong") { try compare(server, oracle) }
            }
        }
    }

    private static func serve(
        _ image: LUKSImage, _ body: (ServerUnderTest, TemporaryDirectory) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await ServerUnderTest.run(
            ["serve"] + image.arguments + ["--socket", directory.file("s")], in: directory
        ) { server in try await body(server, directory) }
    }

    private static func compare(_ server: ServerUnderTest, _ oracle: Data) throws {
        let comparison = Comparison(
            server: server, oracle: oracle, recipe: ImageRecipe(clusterBits: 12, size: oracle.count))
        try comparison.libnbd()
        try comparison.parallelConnections()
        try comparison.blockStatus()
    }
}
