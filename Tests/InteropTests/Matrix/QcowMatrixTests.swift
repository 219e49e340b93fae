// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import TestSupport

/// qcow images of version 1, read by every client; QEMU's own view of the image is what all of them must see.
@Suite(.fewAtATime)
struct QcowMatrixTests {
    /// How large clusters and L2 tables are, as powers of two.
    struct Geometry: Sendable, CustomStringConvertible {
        let clusterBits: Int
        let l2Bits: Int

        /// What QEMU chooses without a backing file.
        static let usual = Geometry(clusterBits: 12, l2Bits: 9)
        /// What QEMU chooses with one.
        static let overlay = Geometry(clusterBits: 9, l2Bits: 12)
        static let all = [
            usual, overlay, Geometry(clusterBits: 9, l2Bits: 6), Geometry(clusterBits: 13, l2Bits: 7),
            Geometry(clusterBits: 16, l2Bits: 13),
        ]

        var clusterSize: Int { 1 << clusterBits }
        var description: String { "\(clusterSize) bytes, tables of \(1 << l2Bits)" }
    }

    /// What an image stands on.
    enum Base: String, CaseIterable, Sendable {
        case shortRaw, longRaw, oddRaw, qcow2, qcow, encryptedQcow
    }

    private static let size = 3 << 20 | 0x600

    @Test(arguments: Geometry.all, [false, true])
    func `every client reads what QEMU reads`(_ geometry: Geometry, isEncrypted: Bool) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = QcowMaker(directory: directory)
        let image = try await maker.empty("image.qcow", Self.size, isEncrypted: isEncrypted)
        if geometry.clusterBits != Geometry.usual.clusterBits { try maker.set(geometry, of: image) }
        try await maker.write(image, geometry, mark: 0xA1)
        let oracle = try await maker.oracle(image)
        #expect(oracle.count == Self.size)
        let recipe = ImageRecipe(clusterBits: geometry.clusterBits, size: Self.size)
        try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
            server in
            try await Comparison(server: server, oracle: oracle, recipe: recipe).allClients(in: directory)
        }
        let report = try await InfoReport.of(image.path)
        #expect(report.format == "qcow")
        #expect(report.virtualSize == UInt64(Self.size))
        #expect(report.clusterSize == UInt64(geometry.clusterSize))
        let clusters = try #require(report.clusters)
        #expect(clusters.total == UInt64((Self.size + geometry.clusterSize - 1) / geometry.clusterSize))
        #expect(clusters.compressed > 0 && clusters.compressed < clusters.allocated)
        #expect(clusters.faults == 0 && clusters.isComplete)
    }

    @Test(arguments: [false, true])
    func `images that qemu-img convert -c made are read, in encrypted ones too`(isEncrypted: Bool) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = DiskContents(mark: 0xC3).striped(count: 5 << 20, clusterSize: 4096)
        let maker = QcowMaker(directory: directory)
        let image = try await maker.empty("image.qcow", disk.count, isEncrypted: isEncrypted)
        let source = try directory.write("source.raw", disk)
        // QEMU ends with status 1 when all is written: its end mark for compressed images is none that qcow takes.
        _ = try await Tool.run(
            "qemu-img",
            ["convert", "-n", "-c", "-f", "raw"] + image.objectArguments
                + ["--target-image-opts", source, image.options()])
        #expect(try await maker.oracle(image) == disk)
        try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
            server in
            let recipe = ImageRecipe(clusterBits: 12, size: disk.count)
            let comparison = Comparison(server: server, oracle: disk, recipe: recipe)
            try comparison.libnbd()
            try comparison.parallelConnections()
            try comparison.blockStatus()
            try await ClientTools(server: server, oracle: disk, directory: directory).nbdcopy()
        }
        let clusters = try #require(try await InfoReport.of(image.path).clusters)
        #expect(clusters.compressed >= UInt64(disk.count / 4096 / 2))
        #expect(clusters.faults == 0)
    }

    @Test(arguments: Base.allCases, [false, true])
    func `an image over another disk is read as QEMU reads both`(_ base: Base, isEncrypted: Bool) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = QcowMaker(directory: directory)
        let below = try await make(base, maker)
        let image = try await maker.empty("top.qcow", Self.size, isEncrypted: isEncrypted, over: below)
        try await maker.write(image, .overlay, mark: 0xB2)
        let oracle = try await maker.oracle(image)
        #expect(oracle.count == Self.size)
        let format = ["--backing-format", below.driver]
        try await ServerUnderTest.run(
            image.serveArguments + format + ["--socket", directory.file("s")], in: directory
        ) { server in
            let recipe = ImageRecipe(clusterBits: Geometry.overlay.clusterBits, size: Self.size)
            let comparison = Comparison(server: server, oracle: oracle, recipe: recipe)
            try comparison.libnbd()
            try comparison.parallelConnections()
            try comparison.blockStatus()
            try await ClientTools(server: server, oracle: oracle, directory: directory).nbdcopy()
        }
        #expect(try await InfoReport.of(image.path).backingFile == below.name)
    }

    @Test(arguments: [513, 1_000_000, 2_097_151])
    func `the guest disk is the size in the header, rounded down to sectors`(_ size: Int) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = QcowMaker(directory: directory)
        let rounded = (size + 511) / 512 * 512
        let image = try await maker.empty("image.qcow", rounded, isEncrypted: true)
        let slice = try directory.write("disk", DiskContents(mark: 3).bytes(at: 0, count: rounded, .plain))
        try await maker.io(image, ["write -s \(slice) 0 \(rounded)"])
        try Qcow2Editor(path: image.path).set(UInt64(size), at: 24)
        let oracle = try await maker.oracle(image)
        #expect(oracle.count == size / 512 * 512)
        try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
            server in
            try server.expectContents(oracle)
            try await ClientTools(server: server, oracle: oracle, directory: directory).nbdcopy()
        }
        #expect(try await InfoReport.of(image.path).virtualSize == UInt64(oracle.count))
    }

    @Test func `an image that has lost its tail is refused; --allow-damaged serves what is left`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = QcowMaker(directory: directory)
        let image = try await maker.empty("image.qcow", 8 << 20, isEncrypted: false)
        try await maker.io(image, ["write -P 1 0 512k", "write -P 2 6M 512k"])
        // The second write begins with its L2 table.
        let editor = Qcow2Editor(path: image.path)
        let second = Int(try editor.long(at: 48 + 3 * 8))
        try editor.truncate(to: second)
        try await Program.expectRefusal(
            image.serveArguments + ["--socket", directory.file("s")], status: 65,
            saying: "qcow L1 table: entry 3 at byte 72", "--allow-damaged")
        try await ServerUnderTest.run(
            image.serveArguments + ["--allow-damaged", "--socket", directory.file("s")], in: directory
        ) { server in
            let client = try LibNBDClient(server.uri)
            #expect(try client.read(512 << 10, at: 0) == Data(repeating: 1, count: 512 << 10))
            #expect(throws: LibNBDClient.Failed.self) { try client.read(512, at: 6 << 20) }
        }
        try editor.truncate(to: 60)
        try await Program.expectRefusal(
            image.serveArguments + ["--socket", directory.file("s")], status: 65,
            saying: "qcow header: l1_table_offset at byte 40")
    }

    private func make(_ base: Base, _ maker: QcowMaker) async throws -> QcowMaker.Layer {
        switch base {
        case .shortRaw: return try maker.raw("base.raw", 1 << 20)
        case .longRaw: return try maker.raw("base.raw", 4 << 20)
        // QEMU counts a file in sectors, and the rest of the last one is zeros.
        case .oddRaw: return try maker.raw("base.raw", 2_000_001)
        case .qcow2:
            let raw = try maker.raw("source.raw", 2 << 20)
            let layer = QcowMaker.Layer(path: maker.directory.file("base.qcow2"), driver: "qcow2")
            try await Tool.succeed("qemu-img", ["convert", "-c", "-f", "raw", "-O", "qcow2", raw.path, layer.path])
            return layer
        case .qcow, .encryptedQcow:
            let layer = try await maker.empty("base.qcow", 2 << 20, isEncrypted: base == .encryptedQcow)
            try await maker.write(layer, .usual, mark: 0xD4)
            return layer
        }
    }
}

/// Makes qcow images of version 1 with QEMU's own tools.
private struct QcowMaker {
    let directory: TemporaryDirectory

    /// An image, and all that it stands on.
    final class Layer: Sendable {
        let path: String
        /// What QEMU calls the format.
        let driver: String
        /// Holds the passphrase; nil when the image is not encrypted.
        let passphrasePath: String?
        let below: Layer?

        init(path: String, driver: String, passphrasePath: String? = nil, below: Layer? = nil) {
            self.path = path
            self.driver = driver
            self.passphrasePath = passphrasePath
            self.below = below
        }

        var name: String { URL(fileURLWithPath: path).lastPathComponent }

        /// The arguments of `nbdecrypt serve`; the passphrase of each layer is for that one.
        var serveArguments: [String] { ["serve", path] + secrets(0) }

        private func secrets(_ number: Int) -> [String] {
            (passphrasePath.map { ["--secret", "\(number)=passphrase-file:\($0)"] } ?? [])
                + (below?.secrets(number + 1) ?? [])
        }

        /// What QEMU's tools need first to open encrypted images.
        var objectArguments: [String] {
            (passphrasePath.map { ["--object", "secret,id=\(secretName),file=\($0)"] } ?? [])
                + (below?.objectArguments ?? [])
        }

        private var secretName: String { "s-" + name.replacing(".", with: "-") }

        /// What QEMU's tools call the image after `--image-opts`.
        func options(_ prefix: String = "") -> String {
            let secret = passphrasePath == nil ? "" : ",\(prefix)encrypt.key-secret=\(secretName)"
            let rest = below.map { "," + $0.options(prefix + "backing.") } ?? ""
            return "\(prefix)driver=\(driver),\(prefix)file.filename=\(path)\(secret)\(rest)"
        }
    }

    /// A raw disk.
    func raw(_ name: String, _ size: Int) throws -> Layer {
        let path = try directory.write(name, DiskContents(mark: 0x11).bytes(at: 0, count: size, .noise))
        return Layer(path: path, driver: "raw")
    }

    /// An empty image.
    func empty(_ name: String, _ size: Int, isEncrypted: Bool, over below: Layer? = nil) async throws -> Layer {
        let passphrase = isEncrypted ? try directory.write("\(name).key", text: "passphrase of \(name)") : nil
        let layer = Layer(path: directory.file(name), driver: "qcow", passphrasePath: passphrase, below: below)
        var options: [String] = []
        if let below {
            // QEMU does not open the backing file, for which it would need a secret.
            options += ["-u", "-b", below.name, "-F", below.driver]
        }
        if isEncrypted {
            let secret = try #require(layer.objectArguments[1].split(separator: ",").first { $0.hasPrefix("id=") })
            options += ["-o", "encrypt.format=aes,encrypt.key-secret=\(secret.dropFirst(3))"]
        }
        try await Tool.succeed(
            "qemu-img", ["create", "-q", "-f", "qcow"] + layer.objectArguments + options + [layer.path, "\(size)"])
        return layer
    }

    /// Gives an empty image other clusters and tables: QEMU writes with any that a header asks for.
    func set(_ geometry: QcowMatrixTests.Geometry, of layer: Layer) throws {
        let editor = Qcow2Editor(path: layer.path)
        try editor.set([UInt8(geometry.clusterBits), UInt8(geometry.l2Bits)], at: 32)
        // The L1 table, behind the header, may have grown.
        try editor.truncate(to: 4096)
    }

    /// Clusters, parts of clusters and the end of the disk, and compressed clusters in a quarter of their own: QEMU
    /// damages a compressed cluster of an encrypted image that it writes to.
    func write(_ layer: Layer, _ geometry: QcowMatrixTests.Geometry, mark: UInt8) async throws {
        let cluster = geometry.clusterSize
        let size = Int(try Qcow2Editor(path: layer.path).long(at: 24))
        let quarter = size / 4 / cluster * cluster
        let contents = DiskContents(mark: mark)
        var commands: [String] = []
        func write(_ offset: Int, _ count: Int, _ texture: DiskContents.Texture, _ command: String = "write") throws {
            let slice = try directory.write(
                "\(layer.name)-\(commands.count)", contents.bytes(at: offset, count: count, texture))
            commands.append("\(command) -s \(slice) \(offset) \(count)")
        }
        try write(cluster, 2 * cluster, .noise)
        try write(3 * cluster + cluster / 4, cluster / 2, .noise)
        try write(5 * cluster - cluster / 4, cluster / 2, .plain)
        commands.append("write -P \(ImageMaker.marker) \(ImageMaker.markerCluster * cluster) \(cluster)")
        try write(size - 512, 512, .noise)
        var generator = SeededGenerator(seed: UInt64(geometry.clusterBits))
        let start = (ImageMaker.markerCluster + 1) * cluster
        for index in 0..<24 {
            let offset = start + generator.number(below: 2 * quarter - start)
            let count = 1 + generator.number(below: min(3 * quarter - offset, 100_000))
            try write(offset, count, index % 3 == 0 ? .plain : .noise)
        }
        for index in 0..<min(40, quarter / cluster - 2) where index % 5 != 4 {
            try write(3 * quarter + index * cluster, cluster, index % 7 == 6 ? .noise : .plain, "write -c")
        }
        try await io(layer, commands)
    }

    func io(_ layer: Layer, _ commands: [String]) async throws {
        try await Tool.succeed(
            "qemu-io", layer.objectArguments + ["--image-opts", layer.options()] + commands.flatMap { ["-c", $0] })
    }

    /// The guest disk as QEMU reads it.
    func oracle(_ layer: Layer) async throws -> Data {
        let path = directory.file("oracle.raw")
        try await Tool.succeed(
            "qemu-img", ["convert"] + layer.objectArguments + ["--image-opts", layer.options(), "-O", "raw", path])
        return try File.contents(path)
    }
}
