// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `migrate --chain keep`: each layer becomes an image of its own; QEMU reads the new chain, and says what each layer stores.
@Suite(.fewAtATime)
struct MigratedChainTests {
    /// The report, as far as it is of interest here.
    private struct Report: Decodable {
        let old, new, digest: String
        let digestOfCopy: String?
        let unreadable: UInt64
        let backingFiles: [Report]?
        let snapshots: [Snapshot]?

        struct Snapshot: Decodable {
            let name, new, digest: String
        }
    }

    /// A chain of three: LUKS, AES with small clusters, and subclusters; all of different sizes, with data, zeros and holes.
    private struct Chain {
        let directory: TemporaryDirectory
        let old: ShapeChain
        let secret: String

        init(in directory: TemporaryDirectory) async throws {
            self.directory = directory
            let maker = ShapeMaker(directory: directory)
            secret = try directory.write("new-passphrase", text: "new secret")
            let base = try await maker.create(.qcow2LUKS, "base", size: 6 << 20)
            try await ShapeChain(layers: [base]).io([
                try maker.write(0, 5 << 20, mark: 1), "write -z 2M 1M",
            ])
            let middle = try await maker.create(
                .qcow2AES, "middle", size: 8 << 20, options: ["cluster_size=4096"], backing: ("base", "qcow2"))
            try await ShapeChain(layers: [middle, base]).io([
                try maker.write(1 << 20, 100 << 10, mark: 2), "write -z 1536k 512k", "discard 4M 64k",
                try maker.write(7 << 20, 4096, mark: 3, .noise),
            ])
            let top = try await maker.create(
                .qcow2, "old.qcow2", size: 9 << 20, options: ["cluster_size=2M", "extended_l2=on"],
                backing: ("middle", "qcow2"))
            old = ShapeChain(layers: [top, middle, base])
            // A layer that the guest has made empty hides what is below, too.
            try await old.io([
                try maker.write(3 << 20, 8 << 10, mark: 4), "write -z 4M 2M", "write -P 0 1M 64k",
                try maker.write(8 << 20, 300 << 10, mark: 5),
            ])
        }

        func migrate(_ new: String, _ more: [String] = []) async throws -> Tool.Outcome {
            try await Program.run(
                ["migrate", old.path, directory.file(new), "--chain", "keep", "--json", "--iter-time", "10"]
                    + ["--new-passphrase-file", secret] + old.ringArguments + more)
        }

        /// The new images from a layer down, by the options that the manual has.
        func opened(_ new: String, from number: Int, depth: Int) -> [String] {
            let keys = (number..<depth).map { layer in
                String(repeating: "backing.", count: layer - number) + "encrypt.key-secret=new"
            }
            let path = directory.file(number == 0 ? "\(new).qcow2" : "\(new).backing-\(number).qcow2")
            return ["--image-opts", (["driver=qcow2", "file.filename=\(path)"] + keys).joined(separator: ",")]
        }

        var object: [String] { ["--object", "secret,id=new,file=\(secret)"] }
    }

    /// What QEMU says of the bytes of a disk: which layer has them, and what they are; not where.
    private func map(_ arguments: [String]) async throws -> [String] {
        struct Entry: Decodable {
            let start, length, depth: UInt64
            let zero, data: Bool
        }
        let output = try await Tool.succeed("qemu-img", ["map", "--output", "json"] + arguments)
        return try JSONDecoder().decode([Entry].self, from: Data(output.utf8)).map { "\($0)" }
    }

    @Test
    func `each layer is an image of its own that stores what the old one stores, by the reading of QEMU`() async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let chain = try await Chain(in: directory)
        let before = try chain.old.layers.map { try File.contents($0.path) }
        let outcome = try await chain.migrate("new.qcow2")
        try #require(outcome.code == 0, "\(outcome.errors)")
        let report = try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
        let below = try #require(report.backingFiles)
        #expect(below.map(\.old) == chain.old.layers.dropFirst().map(\.path))
        #expect(below.map(\.new) == ["new.backing-1.qcow2", "new.backing-2.qcow2"].map(directory.file))
        // Elsewhere, they find each other.
        try FileManager.default.createDirectory(atPath: directory.file("moved"), withIntermediateDirectories: true)
        try await Tool.shell("cd \(directory.path); mv new.*qcow2 moved")
        for (number, part) in ([report] + below).enumerated() {
            let old = chain.old.from(number)
            let new = chain.opened("moved/new", from: number, depth: 3)
            let disk = try await old.oracle(in: directory)
            let raw = directory.file("found")
            try await Tool.succeed("qemu-img", ["convert"] + chain.object + ["-O", "raw"] + new + [raw])
            let found = try File.contents(raw)
            #expect(Difference.describe(found, disk) == nil, "layer \(number)")
            #expect(try await map(chain.object + new) == map(old.objectArguments + [old.name]), "layer \(number)")
            try await Tool.succeed("qemu-img", ["check", "-q"] + chain.object + new)
            #expect(part.digest == part.digestOfCopy)
            #expect(try await part.digest == Self.digest(of: raw))
        }
        #expect(try chain.old.layers.map { try File.contents($0.path) } == before, "the old images are as they were")

        // Our own server reads them, without being told more.
        let new = directory.file("moved/new.qcow2")
        try await Tool.succeed(
            try Program.path,
            ["serve", new, "--passphrase-file", chain.secret, "--run", "nbdcopy \"$uri\" \(directory.file("served"))"])
        let served = try File.contents(directory.file("served"))
        #expect(Difference.describe(served, try await chain.old.oracle(in: directory)) == nil)
    }

    /// As the manual says that anybody can compute it.
    private static func digest(of path: String) async throws -> String {
        let line = try await Tool.shell(
            "split --bytes 1M --filter 'sha256sum' \(path) | cut -c 1-64 | xxd -r -p | sha256sum | cut -c 1-64")
        return line.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test
    func `a snapshot stands on the same backing files, and the printed page opens the chain`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let base = try await maker.create(.raw, "base", size: 2 << 20)
        try await ShapeChain(layers: [base]).io([try maker.write(0, 2 << 20, mark: 1)])
        let top = try await maker.create(.qcow2AES, "old.qcow2", size: 3 << 20, backing: ("base", "raw"))
        let chain = ShapeChain(layers: [top, base])
        try await chain.io([try maker.write(1 << 20, 64 << 10, mark: 2)])
        try await Tool.succeed("qemu-img", ["snapshot", "-q"] + chain.objectArguments + ["-c", "s", chain.name])
        try await chain.io([try maker.write(0, 128 << 10, mark: 3)])
        let secret = try directory.write("new-passphrase", text: "new secret")
        let outcome = try await Program.run(
            ["migrate", chain.path, directory.file("new.qcow2"), "--chain", "keep", "--snapshots"]
                + ["--new-passphrase-file", secret, "--iter-time", "10"] + chain.ringArguments)
        try #require(outcome.code == 0, "\(outcome.errors)")
        #expect(outcome.output.contains("new.backing-1.qcow2") && outcome.output.contains("\"s\" (id 1)"))

        let command = try #require(DocumentationText("docs/migrating.md").blocks("test: chain").first).contents
            .joined(separator: "\n")
        for (new, snapshot) in [("new.qcow2", nil), ("new.snapshot-1-s.qcow2", "s")] {
            try await Tool.shell(
                "cd \(directory.path)\n\(command.replacing("filename=new.qcow2", with: "filename=\(new)"))")
            let found = try File.contents(directory.file("new.raw"))
            let disk = try await chain.oracle(in: directory, snapshot: snapshot)
            #expect(Difference.describe(found, disk) == nil, "\(new)")
        }
        // Headers and keyslots take 3 MiB; what is below, 2 MiB more, is not stored once more.
        #expect(try File.size(directory.file("new.snapshot-1-s.qcow2")) < 4 << 20)
    }

    @Test
    func `what is damaged in a layer is zeros in its copy alone, and is told of each disk that shows it`() async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let base = try await maker.create(.qcow2, "base", size: 2 << 20)
        try await ShapeChain(layers: [base]).io([try maker.write(0, 2 << 20, mark: 1)])
        let middle = try await maker.create(.qcow2, "middle", size: 2 << 20, backing: ("base", "qcow2"))
        let lower = ShapeChain(layers: [middle, base])
        try await lower.io([try maker.write(1 << 20, 128 << 10, mark: 2)])
        let top = try await maker.create(.qcow2, "old", size: 2 << 20, backing: ("middle", "qcow2"))
        let chain = ShapeChain(layers: [top, middle, base])
        try await chain.io([try maker.write(1 << 20, 64 << 10, mark: 3)])
        var disks: [Data] = []
        for number in 0..<3 { disks.append(try await chain.from(number).oracle(in: directory)) }
        // One cluster of the base, and one that the middle has over it and the top hides.
        let far = UInt64(1) << 63 | 1 << 40
        let (low, high) = (Qcow2Editor(path: base.path), Qcow2Editor(path: middle.path))
        try low.set(far, at: low.l2Place(of: 0))
        try high.set(far, at: high.l2Place(of: 1 << 20))
        for number in 0..<3 { disks[number].resetBytes(in: 0..<65536) }
        disks[1].resetBytes(in: 1 << 20..<(1 << 20) + 65536)

        let arguments = ["migrate", top.path, directory.file("new"), "--to", "qcow2", "--chain", "keep", "--json"]
        let refused = try await Program.run(arguments)
        #expect(refused.code == 65 && refused.errors.contains("--allow-damaged"), "\(refused.errors)")
        #expect(!File.exists(directory.file("new.backing-2.partial")))
        let outcome = try await Program.run(arguments + ["--allow-damaged"])
        #expect(outcome.code == 2, "\(outcome.errors)")
        let report = try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
        #expect(([report] + (report.backingFiles ?? [])).map(\.unreadable) == [65536, 131072, 65536])
        for (number, name) in ["new", "new.backing-1", "new.backing-2"].enumerated() {
            let raw = directory.file("found")
            try await Tool.succeed("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", directory.file(name), raw])
            let found = try File.contents(raw)
            #expect(Difference.describe(found, disks[number]) == nil, "\(name)")
        }
    }

    @Test
    func `when a later image fails, those that are complete go as well, and nothing is overwritten`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let base = try await maker.create(.raw, "base", size: 1 << 20)
        let top = try await maker.create(.qcow2, "old", size: 8 << 20, backing: ("base", "raw"))
        let chain = ShapeChain(layers: [top, base])
        try await chain.io([try maker.write(0, 7 << 20, mark: 3, .noise)])
        let new = directory.file("new:1")
        let arguments = ["migrate", top.path, new, "--to", "qcow2", "--chain", "keep"]
        func left() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: directory.path).filter { $0.hasPrefix("new") }.sorted()
        }
        // The base fits, and the image over it does not.
        let full = try await Tool.run("prlimit", ["--fsize=3000000:unlimited", Program.path] + arguments)
        #expect(full.code == 74 && full.errors.contains("make room"), "\(full.errors)")
        #expect(try left() == [])
        try directory.write("new:1.backing-1", text: "mine")
        try await Program.expectRefusal(arguments, status: 74, saying: "new:1.backing-1 exists")
        #expect(try File.text(directory.file("new:1.backing-1")) == "mine" && left() == ["new:1.backing-1"])
        try FileManager.default.removeItem(atPath: directory.file("new:1.backing-1"))

        // To QEMU, a name with a colon would be a protocol.
        let outcome = try await Program.run(arguments)
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(try left() == ["new:1", "new:1.backing-1"])
        let compared = try await Tool.run(
            "qemu-img",
            ["compare", "--image-opts"] + chain.objectArguments + ["driver=qcow2,file.filename=\(new)"]
                + ["driver=qcow2,file.filename=\(top.path)"])
        #expect(compared.code == 0, "\(compared.output)\(compared.errors)")
    }

    @Test
    func `ended at any moment, no image of a chain is left, or all are complete`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let base = try await maker.create(.raw, "base", size: 8 << 20)
        try await ShapeChain(layers: [base]).io([try maker.write(0, 8 << 20, mark: 1)])
        let top = try await maker.create(.qcow2AES, "old", size: 8 << 20, backing: ("base", "raw"))
        let chain = ShapeChain(layers: [top, base])
        try await chain.io([try maker.write(1 << 20, 4 << 20, mark: 2)])
        try await Tool.succeed("qemu-img", ["snapshot", "-q"] + chain.objectArguments + ["-c", "s", chain.name])
        let outcome = try await Tool.run(
            "/usr/bin/python3",
            [
                Program.helper("killed_migrations.py"), Program.path, top.path, top.passphrasePath ?? "",
                directory.path,
                "30", "--chain", "keep", "--snapshots",
            ])
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
    }

    @Test
    func `what cannot stand on another image, or has no layers, is refused or said`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        try directory.write("base", Data(count: 1_000_001))
        let top = try await maker.create(.qcow2, "old", size: 1 << 20, backing: ("base", "raw"))
        let new = directory.file("new")
        let keep = ["migrate", top.path, new, "--chain", "keep", "--to"]
        for format in ["luks2", "luks1", "raw"] {
            try await Program.expectRefusal(keep + [format], status: 64, saying: "--to qcow2-luks", "--chain keep")
        }
        try await Program.expectRefusal(keep + ["qcow2"], status: 64, saying: "1000001 bytes", "--chain keep")
        for more in [["--snapshot", "s"], ["--partition", "1"], ["--size", "1M"], ["--header", "h"]] {
            let outcome = try await Program.run(keep + ["qcow2"] + more)
            #expect(outcome.code == 64 && outcome.errors.contains("whole image"), "\(more): \(outcome.errors)")
        }
        let list = try await Program.run(
            ["migrate", "--list", "l", "--to", "qcow2", "--output-dir", "d", "--chain", "keep"])
        #expect(list.code == 64 && list.errors.contains("not for --list"), "\(list.errors)")
        // A name that no image can have for another.
        try directory.write("base", Data(count: 1 << 20))
        try await Program.expectRefusal(
            ["migrate", top.path, "\(new)\u{1B}[1m", "--to", "qcow2", "--chain", "keep"], status: 64,
            saying: "can be shown; name another one")
        // Nobody could open what it would stand on.
        try await Program.expectRefusal(
            ["migrate", top.path, directory.file(".new"), "--to", "qcow2", "--chain", "keep"], status: 64,
            saying: "begin with a dot")
        let odd = try await Program.run(["migrate", top.path, "nbd:new", "--to", "raw"])
        #expect(odd.code == 64 && odd.errors.contains("write ./ before it"), "\(odd.errors)")
        // A container that a guest has made in a layer.
        let key = try directory.write("key", text: "key")
        try await Tool.shell(
            """
            cd \(directory.path); truncate -s 20M inner.raw
            cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --key-file key inner.raw
            qemu-img create -q -f qcow2 -b inner.raw -F raw inner.qcow2
            """)
        let inner = ["migrate", directory.file("inner.qcow2"), new, "--to", "qcow2", "--chain", "keep"]
        try await Program.expectEnd(
            inner + ["--passphrase-file", key], status: 64, saying: "LUKS container", "--format qcow2")
        #expect(!File.exists(new))
        let asItIs = try await Program.run(inner + ["--format", "qcow2"])
        #expect(asItIs.code == 0, "\(asItIs.errors)")
        try await Tool.succeed("qemu-img", ["compare", "-q", new, directory.file("inner.qcow2")])

        try await Tool.succeed("qemu-img", ["create", "-q", "-f", "qcow2", directory.file("alone"), "1M"])
        let alone = try await Program.run(
            ["migrate", directory.file("alone"), "\(new)-2", "--to", "qcow2", "--chain", "keep", "--snapshots"])
        #expect(alone.code == 0 && alone.output.contains("has no backing file"), "\(alone.errors)")
        #expect(alone.output.contains("the old image has none"), "\(alone.output)")
    }
}
