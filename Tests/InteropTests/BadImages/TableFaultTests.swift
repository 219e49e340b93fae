// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Damaged L1 and L2 tables and compressed clusters: errors on exactly the reads that they concern.
@Suite(.fewAtATime)
struct TableFaultTests {
    /// What an L2 entry is changed to.
    struct Fault: Sendable, CustomStringConvertible {
        let description: String
        let entry: UInt64
        var compat = "1.1"
        let says: String
    }

    private static let copied: UInt64 = 1 << 63
    private static let compressed: UInt64 = 1 << 62

    static let faults = [
        Fault(description: "beyond the file", entry: copied | 1 << 40, says: "outside the file"),
        Fault(description: "just beyond the file", entry: copied | 0x100_0000, says: "outside the file"),
        Fault(description: "at the highest offset", entry: copied | 0x00FF_FFFF_FFFF_0000, says: "outside the file"),
        Fault(description: "not aligned", entry: copied | 0x5_0200, says: "not the start of a cluster"),
        Fault(description: "not aligned in version 2", entry: copied | 0x5_8000, compat: "0.10", says: "not the start"),
        Fault(description: "zero flag in version 2", entry: 1, compat: "0.10", says: "version 2"),
        Fault(description: "compressed, beyond the file", entry: compressed | 1 << 40, says: "outside the file"),
        Fault(
            description: "compressed, at the highest offset", entry: compressed | (1 << 62 - 1),
            says: "outside the file"),
        Fault(description: "compressed, but these are tables", entry: compressed | 0x1_0000, says: "deflate data"),
        Fault(description: "compressed, but this is the header", entry: compressed, says: "deflate data"),
    ]

    @Test(arguments: faults, [false, true])
    func `a damaged L2 entry gives EIO for its cluster, and the connection goes on`(_ fault: Fault, isEncrypted: Bool)
        async throws
    {
        try await withImage(fault.compat, isEncrypted) { image, contents, directory in
            let bad = 21 * Self.cluster
            let editor = Qcow2Editor(path: image.path)
            try editor.set(fault.entry, at: try editor.l2Place(of: bad))
            try await expectErrors(image, contents, at: [bad], directory, says: fault.says)
            let report = try await Program.run(["info", image.path])
            // Tables and compressed data are not looked into by info.
            #expect(report.code == (fault.says == "deflate data" ? 0 : 65), "\(report.errors)")
        }
    }

    @Test(
        arguments: ["deflate", "zstd"],
        [false, true])
    func `a damaged compressed cluster gives EIO, its neighbours are fine`(_ compression: String, isEncrypted: Bool)
        async throws
    {
        let extra = compression == "zstd" ? ["compression_type=zstd"] : []
        try await withImage("1.1", isEncrypted, extra: extra, compressed: true) { image, contents, directory in
            let editor = Qcow2Editor(path: image.path)
            let bad = [7 * Self.cluster, 30 * Self.cluster]
            for guest in bad {
                let entry = try editor.l2Entry(of: guest)
                #expect(entry & Qcow2Editor.compressedFlag != 0)
                // 62 − (cluster_bits − 8) bits are the offset.
                let offset = Int(entry & (1 << 54 - 1))
                try editor.set([UInt8](repeating: 0xFF, count: 16), at: offset)
            }
            try await expectErrors(image, contents, at: bad, directory, says: "\(compression) data")
        }
    }

    @Test func `compressed data that ends too early is an error, too`() async throws {
        try await withImage("1.1", false, compressed: true) { image, contents, directory in
            let editor = Qcow2Editor(path: image.path)
            let bad = 12 * Self.cluster
            let offset = Int(try editor.l2Entry(of: bad) & (1 << 54 - 1))
            // A stored block of deflate with 5 bytes, the last one.
            try editor.set([1, 5, 0, 0xFA, 0xFF, 1, 2, 3, 4, 5], at: offset)
            try await expectErrors(image, contents, at: [bad], directory, says: "before the cluster is full")
        }
    }

    @Test(arguments: [ShapeLayer.Kind.qcow2AES, .qcow2LUKS])
    func `what is missing of an encrypted cluster is an error, not noise`(_ kind: ShapeLayer.Kind) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let chain = ShapeChain(layers: [try await maker.create(kind, "disk", size: 1 << 20)])
        try await chain.io([try maker.write(0, 1 << 20, mark: 1)])
        let whole = try await chain.oracle(in: directory)
        // QEMU has written whole clusters.
        #expect(try File.size(chain.path) % (64 << 10) == 0)
        try await Tool.succeed("truncate", ["--size", "-512", chain.path])
        for command in ["info", "audit"] {
            let outcome = try await Program.run([command, chain.path])
            let said = outcome.output + outcome.errors
            #expect(
                outcome.code == 65 && said.contains("of that encrypted cluster, the file has only 65024 bytes"),
                "\(said)")
        }
        let copy = directory.file("copy")
        let migrated = try await Program.run(["migrate", chain.path, copy, "--to", "raw"] + chain.ringArguments)
        #expect(migrated.code != 0 && !File.exists(copy), "\(migrated.errors)")
        let rest = try await Program.run(
            ["migrate", chain.path, copy, "--to", "raw", "--allow-damaged"] + chain.ringArguments)
        #expect(rest.code == 2 && rest.output.contains("512"), "\(rest.output)")
        let found = try File.contents(copy)
        #expect(found.prefix(found.count - 512) == whole.prefix(found.count - 512))
        #expect(found.suffix(512) == Data(count: 512))
    }

    @Test(arguments: [1 << 40, 0x5_0200, 0x00FF_FFFF_FFFF_0000])
    func `a damaged L1 entry is refused; --allow-damaged serves the rest`(_ entry: UInt64) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        // A table for every 2 MiB.
        let recipe = ImageRecipe(clusterBits: 12, size: 8 << 20)
        let contents = DiskContents(mark: 0x1F).bytes(at: 0, count: 8 << 20, .plain)
        let image = try await ImageMaker(directory: directory).image(of: contents, recipe)
        let editor = Qcow2Editor(path: image.path)
        try editor.set(entry, at: try editor.l1Place(of: 2 << 20))
        try await Program.expectRefusal(
            ["serve", image.path, "--socket", directory.file("s")], status: 65, saying: "L1 table: entry 1",
            "--allow-damaged")
        let outcome = try await ServerUnderTest.run(
            ["serve", image.path, "--allow-damaged", "--socket", directory.file("s")], in: directory
        ) { server in
            let client = try LibNBDClient(server.uri)
            for start in stride(from: 0, to: 8 << 20, by: 1 << 20) {
                if (2 << 20..<4 << 20).contains(start) {
                    let error = #expect(throws: LibNBDClient.Failed.self) { try client.read(1 << 20, at: start) }
                    #expect(error?.errorNumber == EIO)
                } else {
                    let found = try client.read(1 << 20, at: start)
                    #expect(found == contents[start..<(start + 1 << 20)])
                }
            }
        }
        #expect(outcome.errors.contains("warning: qcow2 L1 table: entry 1"))
        let info = try await Program.run(["info", image.path])
        #expect(info.code == 65 && info.output.contains("damage:"))
    }

    @Test func `tables that lie over each other or in themselves lead to nothing worse than wrong data`() async throws {
        try await withImage("1.1", true) { image, contents, directory in
            let editor = Qcow2Editor(path: image.path)
            let l1 = Int(try editor.long(at: 40))
            let sound = try editor.long(at: l1)
            // The L2 table is the L1 table; then the refcount table; then the header is one.
            for target in [UInt64(l1), try editor.long(at: 48), 0] {
                if target == 0 {
                    try editor.set(UInt64(0), at: 40)
                } else {
                    try editor.set(Self.copied | target, at: l1)
                }
                let outcome = try await Program.run(
                    ["serve", image.path, "--no-passphrase-check", "--allow-damaged"]
                        + image.serveArguments.dropFirst(2)
                        + ["--socket", directory.file("s"), "--run", "nbdcopy \"$uri\" - | wc -c; true"])
                #expect(outcome.code == 0, "\(outcome.errors)")
            }
            try editor.set(UInt64(l1), at: 40)
            try editor.set(sound, at: l1)
            try await expectErrors(image, contents, at: [], directory, says: "")
        }
    }

    @Test func `info reads a bounded amount, whatever a sparse file claims`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ImageMaker(directory: directory).empty(ImageRecipe(clusterBits: 21, size: 1 << 30))
        let editor = Qcow2Editor(path: image.path)
        // 16,384 L2 tables of 2 MiB, all of them holes: 32 GiB of tables.
        let count = 16_384
        let l1 = 8 << 20
        try editor.set((0..<count).flatMap { Qcow2Editor.bytes(Self.copied | UInt64(16 << 20 + $0 << 21)) }, at: l1)
        try editor.truncate(to: 64 << 30)
        try editor.set(UInt64(l1), at: 40)
        try editor.set(UInt32(count), at: 36)
        try editor.set(UInt64(count) << 39, at: 24)
        let start = ContinuousClock.now
        let report = try await InfoReport.of(image.path)
        #expect(report.clusters?.isComplete == false)
        #expect(ContinuousClock.now - start < .seconds(20))
    }

    // MARK: Helpers

    private static let cluster = 65_536

    /// Reads everything in several ways: what touches a cluster in `bad` fails with EIO, all else is right.
    private func expectErrors(
        _ image: TestImage, _ contents: Data, at bad: [Int], _ directory: TemporaryDirectory, says: String
    ) async throws {
        let outcome = try await ServerUnderTest.run(
            image.serveArguments + ["--socket", directory.file("s")], in: directory
        ) { server in
            let client = try LibNBDClient(server.uri)
            for count in [512, Self.cluster, 3 * Self.cluster + 1000, contents.count] {
                for start in stride(from: 0, to: contents.count, by: max(count, 20_000)) {
                    let end = min(start + count, contents.count)
                    if bad.contains(where: { $0 < end && start < $0 + Self.cluster }) {
                        let error = #expect(throws: LibNBDClient.Failed.self) {
                            try client.read(end - start, at: start)
                        }
                        #expect(error?.errorNumber == EIO)
                    } else {
                        let found = try client.read(end - start, at: start)
                        #expect(Difference.describe(found, contents[start..<end], at: start) == nil)
                    }
                }
            }
        }
        if !bad.isEmpty {
            #expect(
                outcome.errors.contains(says) && outcome.errors.contains("guest offset \(bad[0])"), "\(outcome.errors)")
        }
    }

    private func withImage(
        _ compat: String, _ isEncrypted: Bool, extra: [String] = [], compressed: Bool = false,
        _ body: (TestImage, Data, TemporaryDirectory) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let contents = DiskContents(mark: 0x1F).bytes(at: 0, count: 4 << 20, .plain)
        let recipe = ImageRecipe(compat: compat, isEncrypted: isEncrypted, size: contents.count, extra: extra)
        let image = try await ImageMaker(directory: directory).image(of: contents, recipe, compressed: compressed)
        try await body(image, contents, directory)
    }
}
