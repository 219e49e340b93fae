// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Every kind of qcow2 image, read by every client; QEMU's own view of the image is what all of them must see.
@Suite(.fewAtATime)
struct ImageMatrixTests {
    @Test(arguments: ImageRecipe.matrix)
    func `every client reads from every kind of image what QEMU reads`(_ recipe: ImageRecipe) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ImageMaker(directory: directory).mixed(recipe)
        let oracle = try await compare(image, recipe, directory)
        #expect(oracle.count == recipe.size)
        try await infoCounts(image)
    }

    @Test(arguments: [9, 12, 16, 21], [false, true])
    func `zstd clusters are read as QEMU reads them`(clusterBits: Int, isEncrypted: Bool) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let size = max(2 << 20, 14 << clusterBits) + 3 * 512
        let recipe = ImageRecipe(
            clusterBits: clusterBits, isEncrypted: isEncrypted, size: size, extra: ["compression_type=zstd"])
        let image = try await ImageMaker(directory: directory).mixed(recipe)
        try await compare(image, recipe, directory)
        try await infoCounts(image)
        #expect(try await InfoReport.of(image.path).compression == "zstd")
    }

    @Test(
        arguments: ["metadata", "falloc", "full"],
        [("0.10", false), ("0.10", true), ("1.1", false), ("1.1", true)])
    func `preallocated images are read as QEMU reads them`(_ mode: String, _ kind: (compat: String, isEncrypted: Bool))
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let recipe = ImageRecipe(
            compat: kind.compat, isEncrypted: kind.isEncrypted, size: 3_000_000 / 512 * 512,
            extra: ["preallocation=\(mode)"])
        let image = try await ImageMaker(directory: directory).empty(recipe)
        let slice = try directory.write("slice", DiskContents(mark: 1).bytes(at: 1000 * 512, count: 100_000, .noise))
        try await image.io([
            "write -P 0 0 64k", "write -P \(ImageMaker.marker) 1M 64k", "write -s \(slice) 512000 100000",
        ])
        // Clusters that were never written hold zeros in the file, which the cipher turns into noise: for QEMU too.
        let oracle = try await image.oracle(in: directory)
        try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
            server in
            let comparison = Comparison(server: server, oracle: oracle, recipe: recipe)
            try comparison.libnbd()
            try await ClientTools(server: server, oracle: oracle, directory: directory).nbdcopy()
        }
        let counted = try await image.check()
        #expect(try await InfoReport.of(image.path).clusters?.allocated == counted.allocated)
    }

    @Test(arguments: ["refcount_bits=1", "refcount_bits=64", "lazy_refcounts=on"], [false, true])
    func `whatever a writer may choose besides is read as QEMU reads it`(_ option: String, isEncrypted: Bool)
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let recipe = ImageRecipe(isEncrypted: isEncrypted, size: 3 << 20, extra: [option])
        let image = try await ImageMaker(directory: directory).mixed(recipe)
        try await compare(image, recipe, directory)
        try await infoCounts(image)
    }

    /// Serves the image to all clients.
    @discardableResult
    private func compare(
        _ image: TestImage, _ recipe: ImageRecipe, _ directory: TemporaryDirectory
    ) async throws -> Data {
        let oracle = try await image.oracle(in: directory)
        try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
            server in
            try await Comparison(server: server, oracle: oracle, recipe: recipe).allClients(in: directory)
        }
        return oracle
    }

    /// Compares the counts of `nbdecrypt info` with those of `qemu-img check`.
    private func infoCounts(_ image: TestImage) async throws {
        let expected = try await image.check()
        let report = try await InfoReport.of(image.path)
        #expect(report.clusters?.allocated == expected.allocated ?? 0)
        #expect(report.clusters?.compressed == expected.compressed ?? 0)
        #expect(report.clusters?.total == expected.total)
        #expect(report.clusters?.compressed ?? 0 > 0, "the image has compressed clusters")
        #expect(report.clusters?.faults == 0)
    }
}
