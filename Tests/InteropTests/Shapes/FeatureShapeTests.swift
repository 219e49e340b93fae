// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What the header of a layer may say besides.
@Suite(.fewAtATime)
struct FeatureShapeTests {
    @Test(arguments: [1, 2, 4, 8, 16, 32, 64])
    func `reference counts of every width are of no matter to a reader`(_ bits: Int) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let size = 1 << 20 | 512
        let kind = bits % 3 == 1 ? ShapeLayer.Kind.qcow2AES : .qcow2
        let layer = try await maker.create(
            kind, "image", size: size, options: ["refcount_bits=\(bits)", "cluster_size=4096"])
        let chain = ShapeChain(layers: [layer])
        try await chain.io(
            try maker.mixture(kind, size: size, clusterSize: 4096, granularity: 512, seed: UInt64(bits)))
        let oracle = try await chain.oracle(in: directory)
        try await ServerUnderTest.run(
            ["serve", chain.path, "--socket", directory.file("s"), "--no-passphrase-check"] + chain.ringArguments,
            in: directory
        ) { server in try server.expect(oracle) }
        #expect(try await InfoReport.of(chain.path).refcountBits == bits)
    }

    @Test(arguments: ["dirty", "corrupt"])
    func `a layer below that is dirty or corrupt is served with a warning`(_ name: String) async throws {
        try await withLayers { directory, top, below in
            try Qcow2Editor(path: below).set(name == "dirty" ? UInt64(1) : 2, at: 72)
            let outcome = try await ServerUnderTest.run(
                ["serve", top, "--socket", directory.file("s")], in: directory
            ) { server in try server.expect(Data(count: 1 << 20)) }
            #expect(outcome.errors.contains("warning: layer 1 (\(below)): the image has its \(name) bit set"))
        }
    }

    @Test func `a feature of a layer below that nobody knows is refused, with the layer`() async throws {
        try await withLayers { directory, top, below in
            try Qcow2Editor(path: below).set(UInt64(1) << 33, at: 72)
            try await Program.expectRefusal(
                ["serve", top, "--socket", directory.file("s")], status: 65, saying: "layer 1", "below",
                "unknown bit 33")
            // What the image itself calls it.
            let entry: [UInt8] = [0, 33] + Array("glass disks".utf8) + [UInt8](repeating: 0, count: 35)
            try Qcow2Editor(path: below).set(Qcow2Editor.bytes(UInt32(0x6803_F857)), at: 104)
            try Qcow2Editor(path: below).set(Qcow2Editor.bytes(UInt32(48)) + entry, at: 108)
            try await Program.expectRefusal(
                ["serve", top, "--socket", directory.file("s")], status: 65, saying: "layer 1", "below", "glass disks")
        }
    }

    private func withLayers(
        _ body: (TemporaryDirectory, _ top: String, _ below: String) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let below = try HostileImage().write(to: directory.file("below"))
        let top = try HostileImage(backing: "below", format: "qcow2").write(to: directory.file("top"))
        try await body(directory, top, below)
    }
}
