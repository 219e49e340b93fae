// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `nbdecrypt info --plan`, beside `qemu-img measure` and `qemu-img map`, and beside what `migrate` then does.
@Suite(.fewAtATime)
struct MigrationPlanTests {
    private struct Plan: Decodable {
        struct Other: Decodable {
            let new, disk: String
            let size, read, space: UInt64
        }

        let others: [Other]
        let totalSpace: UInt64?
        let notes: [String]
        let size: UInt64?
        let read: UInt64?
        let zeros: UInt64?
        let space: UInt64?
        let format: String
        let isFormatProposed: Bool
        let secrets: [String]
        let leftBehind: [String]
        let obstacles: [String]
        let command: String
    }

    private struct Report: Decodable {
        let plan: Plan
    }

    private func plan(
        _ arguments: [String], environment: [String: String?] = [:], status: Int32 = 0,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> Plan {
        let outcome = try await Program.run(["info", "--plan", "--json"] + arguments, environment: environment)
        #expect(outcome.code == status, "\(outcome.errors)", sourceLocation: sourceLocation)
        return try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8)).plan
    }

    private func withDirectory(_ body: (TemporaryDirectory) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await body(directory)
    }

    private struct Measure: Decodable {
        let required: UInt64
    }

    private struct MappedExtent: Decodable {
        let length: UInt64
        let zero: Bool
    }

    // MARK: Numbers

    @Test(arguments: [ShapeLayer.Kind.raw, .luks, .qcow2, .qcow2AES, .qcow2LUKS])
    func `space and zeros are those of QEMU, and no key is needed to tell`(_ kind: ShapeLayer.Kind) async throws {
        try await withDirectory { directory in
            let maker = ShapeMaker(directory: directory)
            let size = 6 << 20
            let chain = ShapeChain(layers: [try await maker.create(kind, "old", size: size)])
            try await chain.io(try maker.mixture(kind, size: size, clusterSize: 65536, granularity: 512, seed: 11))
            let said = [chain.path, "--new", directory.file("new")] + (kind == .raw ? ["-f", "raw"] : [])
            let key = try directory.write("new.key", text: "new secret")
            let extents = try JSONDecoder().decode(
                [MappedExtent].self,
                from: Data(
                    try await Tool.succeed(
                        "qemu-img", ["map", "--output", "json"] + chain.objectArguments + [chain.name]
                    ).utf8))
            let zeros = extents.filter(\.zero).reduce(0) { $0 + $1.length }
            for (to, options) in [
                ("qcow2", []), ("qcow2-luks", ["-o", "encrypt.format=luks,encrypt.key-secret=new"]),
            ] {
                let plan = try await plan(said + ["--to", to])
                let measured = try JSONDecoder().decode(
                    Measure.self,
                    from: Data(
                        try await Tool.succeed(
                            "qemu-img",
                            ["measure", "--output", "json", "-O", "qcow2", "--object", "secret,id=new,file=\(key)"]
                                + options + chain.objectArguments + [chain.name]
                        ).utf8))
                #expect(plan.space == measured.required, "\(kind) to \(to)")
                #expect(plan.size == UInt64(size) && plan.obstacles.isEmpty, "\(plan)")
                // Clusters in holes of the file are zeros as well, of which QEMU tells whole ones alone.
                #expect(
                    plan.zeros == zeros || kind == .qcow2 && plan.zeros ?? 0 > zeros, "\(plan.zeros ?? 0), \(zeros)")
                #expect(plan.read ?? 0 >= UInt64(size) - zeros && plan.read ?? .max <= UInt64(size))
                #expect(plan.secrets.count == (kind.isEncrypted ? 1 : 0) + (to == "qcow2" ? 0 : 1))
                #expect(plan.format == to && !plan.isFormatProposed)
            }
            #expect(try await plan(said + ["--to", "luks1"]).space == UInt64(size) + 2 << 20)
            guard kind.isEncrypted else { return }
            // With the key, nothing is known of it that was not known before.
            let (sealed, known) = try await (
                plan(said + ["--to", "qcow2"]),
                plan(said + ["--to", "qcow2", "--check-passphrase"] + chain.ringArguments)
            )
            #expect(sealed.space == known.space && sealed.zeros == known.zeros && sealed.read == known.read)
        }
    }

    @Test
    func `the command that a plan prints makes the image that it foretells, in the space that it says`() async throws {
        try await withDirectory { directory in
            let maker = ShapeMaker(directory: directory)
            let size = 6 << 20
            let base = try await maker.create(.qcow2AES, "base", size: size)
            try await ShapeChain(layers: [base]).io(
                try maker.mixture(.qcow2AES, size: size, clusterSize: 65536, granularity: 512, seed: 7))
            let top = try await maker.create(.qcow2, "it's", size: size, backing: ("base", "qcow2"))
            let chain = ShapeChain(layers: [top, base])
            try await chain.io([try maker.write(1 << 20, 1 << 20, mark: 3)])
            let secret = try directory.write("new.key", text: "new secret")
            for to in ["raw", "qcow2", "qcow2-luks"] {
                let new = directory.file("new \(to)")
                let plan = try await plan([chain.path, "--to", to, "--new", new])
                #expect(plan.obstacles.isEmpty && plan.leftBehind.contains { $0.contains("backing files") })
                let given = to == "qcow2-luks" ? "--new-passphrase-file \(secret) --iter-time 10" : ""
                let output = try await Tool.shell(
                    """
                    cd \(directory.path); PATH=$(dirname \(try Program.path)):$PATH
                    \(plan.command) \(given) \(chain.ringArguments.joined(separator: " ")) --json
                    """)
                let copied = try JSONDecoder().decode(Copied.self, from: Data(output.utf8))
                #expect(copied.format == to && copied.size == plan.size)
                #expect(copied.data <= plan.read ?? 0 && copied.zeros >= plan.zeros ?? .max)
                let blocks = try await Tool.shell("stat -c %b \'\(new)\'")
                let taken = UInt64(blocks.trimmingCharacters(in: .whitespacesAndNewlines)) ?? .max
                #expect(taken * 512 <= plan.space ?? 0, "\(to)")
            }
        }
    }

    @Test
    func `a chain with snapshots is planned as it is copied: names, and the space that QEMU measures of each layer`()
        async throws
    {
        try await withDirectory { directory in
            let maker = ShapeMaker(directory: directory)
            let size = 6 << 20
            let shapes = ["cluster_size=65536", "cluster_size=4096", "cluster_size=16384,extended_l2=on"]
            let names = ["base.qcow2", "mid.qcow2", "top.qcow2"]
            // Alone, a layer would be read through what is below.
            func node(_ name: String) -> String {
                #"json:{"driver":"qcow2","file":{"driver":"file","filename":"\#(directory.file(name))"},"backing":null}"#
            }
            for (index, name) in names.enumerated() {
                _ = try await maker.create(
                    .qcow2, name, size: size, options: [shapes[index]],
                    backing: index == 0 ? nil : (names[index - 1], "qcow2"))
                let mixture = try maker.mixture(
                    .qcow2, size: size, clusterSize: [65536, 4096, 16384][index], granularity: 512,
                    seed: [3, 5, 4][index])
                try await Tool.succeed("qemu-io", mixture.flatMap { ["-c", $0] } + [node(name)])
            }
            try await Tool.shell("qemu-img snapshot -q -c 'before\u{7}\"update' \(directory.file("top.qcow2"))")
            try await Tool.succeed("qemu-io", ["-c", "write -P 9 3M 1M", node("top.qcow2")])
            let key = try directory.write("key", text: "new secret")
            for to in ["qcow2", "qcow2-luks"] {
                let new = directory.file("new \(to).qcow2")
                let plan = try await plan([
                    directory.file("top.qcow2"), "--to", to, "--new", new, "--chain", "keep", "--snapshots",
                ])
                #expect(plan.obstacles.isEmpty && plan.command.hasSuffix(" --snapshots --chain keep"), "\(plan)")
                #expect(!plan.leftBehind.contains { $0.contains("backing") || $0.contains("snapshot") }, "\(plan)")
                #expect(plan.totalSpace == plan.others.map(\.space).reduce(plan.space ?? 0, +))
                let measured =
                    [
                        (0, "base.qcow2", nil), (1, "mid.qcow2", nil), (2, "top.qcow2", "1"), (2, "top.qcow2", nil),
                    ] as [(Int, String, String?)]
                let spaces = plan.others.map(\.space) + [plan.space ?? 0]
                for ((shape, name, snapshot), space) in zip(measured, spaces) {
                    // To measure for LUKS, QEMU derives a key, for seconds: of one layer.
                    guard to == "qcow2" || shape == 1 else { continue }
                    let options = [shapes[shape], to == "qcow2" ? nil : "encrypt.format=luks,encrypt.key-secret=new"]
                    let output = try await Tool.succeed(
                        "qemu-img",
                        ["measure", "--output", "json", "-O", "qcow2", "--object", "secret,id=new,file=\(key)"]
                            + ["-o", options.compactMap { $0 }.joined(separator: ",")]
                            + (snapshot.map { ["-l", "snapshot.id=\($0)"] } ?? []) + [node(name)])
                    let measure = try JSONDecoder().decode(Measure.self, from: Data(output.utf8))
                    #expect(space == measure.required, "\(name) \(snapshot ?? "") to \(to)")
                }
                guard to == "qcow2" else { continue }
                try await Tool.shell(
                    "cd \(directory.path); PATH=$(dirname \(try Program.path)):$PATH; \(plan.command) --json > report")
                for (path, space) in zip(plan.others.map(\.new) + [new], spaces) {
                    let blocks = try await Tool.succeed("stat", ["-c", "%b", path])
                    let taken = UInt64(blocks.trimmingCharacters(in: .whitespacesAndNewlines)) ?? .max
                    #expect(taken * 512 <= space, "\(path): \(taken * 512) of \(space)")
                }
                let report = try JSONDecoder().decode(
                    ChainReport.self, from: try File.contents(directory.file("report")))
                #expect(
                    plan.others.map(\.new) == report.backingFiles.reversed().map(\.new) + report.snapshots.map(\.new))
            }
        }
    }

    private struct ChainReport: Decodable {
        struct Image: Decodable {
            let new: String
        }

        let backingFiles, snapshots: [Image]
    }

    private struct Copied: Decodable {
        let format: String
        let size, data, zeros: UInt64
    }

    // MARK: What is left behind, and what is in the way

    @Test func `snapshots, bitmaps and compression are left behind, and it is said`() async throws {
        try await withDirectory { directory in
            let image = try await ImageMaker(directory: directory).image(
                of: DiskContents(mark: 1).bytes(at: 0, count: 1 << 20, .plain), ImageRecipe(size: 1 << 20),
                compressed: true)
            try await Tool.shell(
                "qemu-img snapshot -q -c before \(image.path); qemu-img bitmap --add \(image.path) monday")
            let plan = try await plan([image.path])
            #expect(plan.format == "qcow2-luks" && !plan.isFormatProposed && plan.command.contains(" new.qcow2 "))
            for part in ["1 internal snapshot: \"before\"", "1 dirty bitmap: \"monday\"", "16 compressed clusters"] {
                #expect(plan.leftBehind.contains { $0.contains(part) }, "\(plan.leftBehind)")
            }
            let text = try await Tool.succeed(try Program.path, ["info", image.path, "--plan", "--to", "raw"])
            #expect(text.contains("To copy it, type:\n  nbdecrypt migrate \(image.path) new.raw --to raw"), "\(text)")
            #expect(text.contains("not copied") && !text.contains("in the way"))
        }
    }

    @Test func `what is in the way is said before anybody types a passphrase`() async throws {
        try await withDirectory { directory in
            func expect(
                _ arguments: [String], _ parts: String..., environment: [String: String?] = [:], status: Int32 = 0,
                sourceLocation: SourceLocation = #_sourceLocation
            ) async throws {
                let plan = try await plan(
                    arguments, environment: environment, status: status, sourceLocation: sourceLocation)
                for part in parts {
                    #expect(
                        plan.obstacles.contains { $0.contains(part) }, "\(part): \(plan)",
                        sourceLocation: sourceLocation)
                }
                #expect(plan.obstacles.count == parts.count, "\(plan)", sourceLocation: sourceLocation)
            }
            let disk = SmallDisk(directory)
            let (old, new) = (try await disk.encrypted(), directory.file("new"))
            try await expect([old, "--new", old], "is a file of the old image")
            try await expect(
                [old, "--new", try directory.write("taken", text: "")], "exists, and nothing is overwritten")
            try await expect([old, "--new", directory.file("no/where")], "make that directory")
            try await expect([old, "--new", new], "qemu-img is needed", environment: ["PATH": "/none"])
            let odd = try directory.write("odd", Data(repeating: 1, count: 1000))
            try await expect([odd, "-f", "raw", "--new", new], "whole sectors of 512")
            try await Tool.shell(
                """
                cd \(directory.path); qemu-img create -q -f qcow2 large 256T
                qemu-img create -q -f qcow2 -F qcow2 -b \(old) top
                """)
            try await expect([directory.file("large"), "--to", "luks2", "--new", new], "make room")
            let top = directory.file("top")
            try await expect([top, "--new", new, "--references", "deny"], "--allow-reference")
            try await expect([top, "--new", new, "--references", "deny", "--allow-reference", old])
            try await expect([top, "--new", new, "--to", "raw", "--chain", "keep"], "stands on no other")
            try await expect(
                [top, "--new", try directory.write("new.qcow2", text: ""), "--to", "qcow2"],
                "exists, and nothing is overwritten")
            try directory.write("chain.backing-1.qcow2", text: "")
            try await expect(
                [top, "--new", directory.file("chain.qcow2"), "--chain", "keep"],
                "chain.backing-1.qcow2 exists, and nothing is overwritten")
            // A table that leads out of the file: both commands end with that.
            let editor = Qcow2Editor(path: old)
            try editor.set(1 << 40 as UInt64, at: try editor.l2Place(of: 0))
            try await expect([old, "--new", new], "--allow-damaged", status: 65)
            #expect(!File.exists(new))
        }
    }

    @Test func `what is for a plan alone is refused without one`() async throws {
        for options in [
            ["--to", "raw"], ["--new", "x"], ["--references", "allow"], ["--snapshots"], ["--chain", "keep"],
        ] {
            let outcome = try await Program.run(["info", "x"] + options)
            #expect(outcome.code == 64 && outcome.errors.contains("are for --plan"), "\(outcome.errors)")
        }
        for part in [["--partition", "1"], ["--size", "1M"], ["--header", "h"], ["--logical-volume", "a/b"]] {
            let outcome = try await Program.run(["info", "x", "--plan", "--chain", "keep"] + part)
            #expect(outcome.code == 64 && outcome.errors.contains("are for a whole image"), "\(outcome.errors)")
        }
    }
}
