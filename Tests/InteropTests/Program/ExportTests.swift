// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// One image, many exports; many images in one process.
@Suite(.fewAtATime)
struct ExportTests {
    /// A disk with two partitions, one of which holds a container, in an encrypted image with a snapshot.
    private struct Machine {
        let chain: ShapeChain
        /// The whole disk, and both partitions; the container is not decrypted in the disk.
        let disk, first, second: Data
        /// The disk when the snapshot was made.
        let before: Data
        let secrets: [String]
    }

    @Test func `--exports all offers the disk, snapshots, partitions and layers, each with a description`() async throws
    {
        try await withMachine { directory, machine in
            try await serve(machine.chain.path, machine.secrets + ["--exports", "all"], directory) { server in
                let exports = try server.exports()
                #expect(
                    exports.keys.sorted()
                        == ["", "layer/0", "layer/1", "partition/1", "partition/2", "snapshot/before"])
                try server.expect(machine.disk)
                try server.expect(machine.disk, at: "layer/0")
                try server.expect(machine.first, at: "partition/1")
                try server.expect(machine.second, at: "partition/2")
                try server.expect(machine.before, at: "snapshot/before")
                #expect(exports[""]?.contains("qcow2, LUKS1") == true, "\(exports)")
                #expect(exports["partition/1"]?.contains("\"plain one\"") == true, "\(exports)")
                #expect(exports["partition/2"]?.contains("LUKS2") == true, "\(exports)")
                #expect(exports["partition/2"]?.contains("decrypted") == true, "\(exports)")
                #expect(exports["snapshot/before"]?.contains("id 1") == true, "\(exports)")
                // nbdinfo looks at each of them.
                let listed = try await Tool.succeed("nbdinfo", ["--list", "--json", server.uri])
                for (name, description) in exports {
                    #expect(listed.contains("\"export-name\": \"\(name)\""), "\(name)")
                    let quoted = description.replacing("\"", with: "\\\"")
                    #expect(listed.contains("\"description\": \"\(quoted)\""), "\(description) in \(listed)")
                }
            }
        }
    }

    @Test func `a list of exports offers these and no others`() async throws {
        try await withMachine { directory, machine in
            let arguments = machine.secrets + ["--exports", "partition/2,disk", "--exports", "snapshot/before"]
            try await serve(machine.chain.path, arguments, directory) { server in
                try server.expectExports("", "partition/2", "snapshot/before")
                try server.expect(machine.second, at: "partition/2")
                try server.expect(machine.before, at: "snapshot/before")
                #expect(throws: LibNBDClient.Failed.self) { try LibNBDClient(server.uri(of: "partition/1")) }
            }
            for (wrong, says) in [
                ("partition/3", "partition/1, partition/2"), ("layer/7", "layer/0, layer/1"),
                ("snapshot/x", "it has before"), ("nonsense", "disk, snapshot/NAME"), ("partition", "partition/1"),
                ("ciphertext", "ciphertext"), ("layer/", "layer/0"), ("snapshot/", "it has before"),
            ] {
                try await Program.expectEnd(
                    ["serve", machine.chain.path, "--socket", directory.file("s"), "--exports", wrong]
                        + machine.secrets, status: 64, saying: says)
            }
        }
    }

    @Test func `without the secret, a partition is served as it is among all, and refused when it is named`()
        async throws
    {
        try await withMachine { directory, machine in
            let image = ["--secret", "0=passphrase-file:\(machine.chain.layers[0].passphrasePath ?? "")"]
            let wrong = ["--passphrase-file", try directory.write("wrong", text: "wrong")]
            for secrets in [image, image + wrong] {
                let outcome = try await serve(machine.chain.path, secrets + ["--exports", "all"], directory) { server in
                    #expect(try server.exports()["partition/2"]?.contains("not decrypted") == true)
                    let size = try LibNBDClient(server.uri(of: "partition/2")).size
                    try server.expect(machine.disk[(4 << 20)..<((4 << 20) + size)], at: "partition/2")
                }
                #expect(outcome.errors.contains("the partition is taken as it is"), "\(outcome.errors)")
            }
            for option in [["--partition", "2"], ["--exports", "partition/2"]] {
                try await Program.expectEnd(
                    ["serve", machine.chain.path, "--socket", directory.file("s")] + image + wrong + option, status: 77,
                    saying: "partition 2")
            }
        }
    }

    @Test func `the default export can be a partition, a snapshot, a part of one of them`() async throws {
        try await withMachine { directory, machine in
            func expect(_ contents: Data, _ options: String...) async throws {
                try await serve(machine.chain.path, machine.secrets + options, directory) { server in
                    try server.expect(contents)
                }
            }
            try await expect(machine.second, "--partition", "2")
            try await expect(machine.second[4096..<12_288], "--partition", "2", "--offset", "4K", "--size", "8K")
            try await expect(machine.second[1000..<1777], "--partition", "2", "--offset", "1000", "--size", "777")
            try await expect(machine.disk[(2 << 20)...], "--offset", "2M")
            try await expect(machine.disk[..<(3 << 20)], "--size", "3M")
            try await expect(
                machine.before[(1 << 20)..<(2 << 20)], "--snapshot", "before", "--offset", "1M", "--size", "1M")
            try await expect(machine.first, "--snapshot", "1", "--partition", "1")
            for (wrong, says) in [
                (["--offset", "1G"], "--offset and --size"), (["--size", "1G"], "--offset and --size"),
                (["--offset", "40M", "--size", "1G"], "--offset and --size"),
                (["--partition", "9"], "no partition 9; it has 1, 2"),
            ] {
                try await Program.expectEnd(
                    ["serve", machine.chain.path, "--socket", directory.file("s")] + machine.secrets + wrong,
                    status: 64, saying: says)
            }
            for wrong in [
                ["--partition", "0"], ["--partition", "x"], ["--offset", "x"], ["--size", "0"], ["--size", "-1"],
                ["--offset", "99999999999T"], ["--offset", "1Q"],
            ] {
                let outcome = try await Program.run(
                    ["serve", machine.chain.path, "--socket", directory.file("s")] + wrong)
                #expect(outcome.code == 64, "\(wrong): \(outcome.errors)")
            }
        }
    }

    @Test(arguments: [ShapeLayer.Kind.qcow2, .qcow2AES, .qcow2LUKS, .qcow, .luks])
    func `ciphertext is the container as the guest wrote it, so that dm-crypt can open it`(_ kind: ShapeLayer.Kind)
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        var maker = LUKSMaker(directory: directory)
        maker.size = 4 << 20
        let container = try await maker.format(type: "luks1", options: ["--pbkdf-force-iterations", "1000"])
        let contents = try File.contents(container)
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        var image = container
        var all = secret
        if kind != .luks {
            let layer = try await ShapeMaker(directory: directory).create(kind, "image", size: contents.count)
            let chain = ShapeChain(layers: [layer])
            try await chain.io(["write -s \(container) 0 \(contents.count)"])
            image = layer.path
            all += chain.layers[0].passphrasePath.map { ["--secret", "0=passphrase-file:\($0)"] } ?? []
        }
        let plain = directory.file("plain")
        try await serve(image, all, directory) { server in try await Tool.succeed("nbdcopy", [server.uri, plain]) }
        try await serve(image, all + ["--exports", "all"], directory) { server in
            try server.expectExports("", "ciphertext")
            try server.expect(File.contents(plain))
            try server.expect(contents, at: "ciphertext")
        }
        // Nobody needs the secret of the container for its ciphertext.
        try await serve(image, Array(all.dropFirst(2)) + ["--exports", "ciphertext"], directory) { server in
            try server.expectExports("ciphertext")
            try server.expect(contents, at: "ciphertext")
            try server.expect(contents)
        }
    }

    @Test func `several images are exports under their file names, each opened with the secret that fits`() async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        var secrets: [String] = []
        var oracles: [String: Data] = [:]
        var paths: [String] = []
        for (name, kind) in [("a.qcow2", ShapeLayer.Kind.qcow2LUKS), ("b.luks", .luks), ("c d.qcow", .qcowAES)] {
            let layer = try await maker.create(kind, name, size: 1 << 20)
            let chain = ShapeChain(layers: [layer])
            try await chain.io([try maker.write(0, 1 << 20, mark: UInt8(paths.count))])
            oracles[name] = try await chain.oracle(in: directory)
            secrets += chain.ringArguments
            paths.append(layer.path)
        }
        let arguments = ["serve"] + paths + secrets + ["--socket", directory.file("s")]
        try await ServerUnderTest.run(arguments, in: directory) { server in
            #expect(try server.exports().keys.sorted() == oracles.keys.sorted())
            for (name, oracle) in oracles { try server.expect(oracle, at: name) }
            try server.expect(try #require(oracles["a.qcow2"]))
            #expect(throws: LibNBDClient.Failed.self) { try LibNBDClient(server.uri(of: "nothing")) }
        }
    }

    @Test func `images of the same name, and options for one image, are refused when there are several`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let first = try HostileImage().write(to: directory.file("a"))
        try FileManager.default.createDirectory(atPath: directory.file("d"), withIntermediateDirectories: false)
        let second = try HostileImage().write(to: directory.file("d/a"))
        let socket = ["--socket", directory.file("s")]
        try await Program.expectRefusal(["serve", first, second] + socket, status: 64, saying: "name a", "--config")
        let third = try HostileImage().write(to: directory.file("b"))
        for option in [
            ["--partition", "1"], ["--snapshot", "1"], ["--offset", "1"], ["--size", "1"], ["--header", first],
        ] {
            let outcome = try await Program.run(["serve", first, third] + socket + option)
            #expect(outcome.code == 64 && outcome.errors.contains("for one image"), "\(outcome.errors)")
        }
        try await Program.expectRefusal(
            ["serve", first, third, "--export-name", "x"] + socket, status: 64, saying: "--export-name is for one image"
        )
        // One that cannot be opened ends them all.
        try await Program.expectRefusal(
            ["serve", first, directory.file("none")] + socket, status: 66, saying: directory.file("none"))
    }

    private func withMachine(_ body: (TemporaryDirectory, Machine) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let size = 8 << 20
        let disk = try directory.write("disk.raw", Data(count: size))
        let script = "label: gpt\nstart=2048,size=2M,name=\"plain one\"\nstart=4M,size=3M\n"
        try await Tool.succeed("sfdisk", ["-q", disk], input: Array(script.utf8))
        let layer = try await maker.create(.qcow2LUKS, "image", size: size, backing: ("disk.raw", "raw"))
        let chain = ShapeChain(layers: [layer, ShapeLayer(kind: .raw, path: disk)])
        let first = DiskContents(mark: 1).bytes(at: 0, count: 2 << 20, .plain)
        try await chain.io(["write -s \(try directory.write("first", first)) 1M 2M"])
        try await Tool.succeed(
            "qemu-img", ["snapshot", "-q"] + chain.objectArguments + ["-c", "before", chain.name])
        let before = try await chain.oracle(in: directory)
        var luks = LUKSMaker(directory: directory)
        luks.size = 3 << 20
        let container = try await luks.format(
            options: LUKSMaker.cheap + ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "512k"])
        try await chain.io(["write -s \(container) 4M 3M"])
        let inside = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        let plain = directory.file("plain")
        try await serve(container, inside, directory) { server in
            try await Tool.succeed("nbdcopy", [server.uri, plain])
        }
        let machine = Machine(
            chain: chain, disk: try await chain.oracle(in: directory), first: first, second: try File.contents(plain),
            before: before, secrets: inside + chain.ringArguments)
        try await body(directory, machine)
    }

    @discardableResult
    private func serve(
        _ image: String, _ options: [String], _ directory: TemporaryDirectory,
        _ body: (ServerUnderTest) async throws -> Void
    ) async throws -> Tool.Outcome {
        try await ServerUnderTest.run(
            ["serve", image, "--socket", directory.file("s")] + options, in: directory, body)
    }
}
