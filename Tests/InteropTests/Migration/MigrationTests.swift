// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `migrate` of images of all formats into all formats; QEMU, or dm-crypt's own headers, read the copy.
@Suite(.fewAtATime)
struct MigrationTests {
    /// A kind of old image, with the options that open it.
    enum Old: String, CaseIterable, Sendable {
        case raw, luks1, luks2, qcowAES, qcow2, qcow2AES, qcow2LUKS, chain, snapshot, partition, oddSize

        /// Makes it, with data, zeros and clusters of every kind; QEMU tells what its disk is.
        func make(in directory: TemporaryDirectory) async throws -> (arguments: [String], disk: Data) {
            let maker = ShapeMaker(directory: directory)
            let size = (6 << 20) + 3 * 512
            func filled(
                _ kind: ShapeLayer.Kind, over base: ShapeLayer? = nil, seed: UInt64 = 5
            ) async throws -> ShapeChain {
                let layer = try await maker.create(
                    kind, "old", size: size, backing: base.map { ("base", $0.kind.driver) })
                let chain = ShapeChain(layers: [layer] + (base.map { [$0] } ?? []))
                try await chain.io(
                    try maker.mixture(kind, size: size, clusterSize: 65536, granularity: 512, seed: seed))
                return chain
            }
            func opened(_ chain: ShapeChain, _ more: [String] = []) async throws -> ([String], Data) {
                ([chain.path] + chain.ringArguments + more, try await chain.oracle(in: directory))
            }
            switch self {
            case .raw: return try await opened(filled(.raw), ["-f", "raw"])
            case .luks1: return try await opened(filled(.luks))
            case .luks2:
                let disk = DiskContents(mark: 3).bytes(at: 0, count: 3 << 20, .noise) + Data(count: 2 << 20)
                let path = try directory.write("old", disk)
                let key = try directory.write("old.passphrase", text: "old secret")
                // In place: cryptsetup encrypts what is there.
                try await Tool.succeed(
                    "cryptsetup",
                    ["reencrypt", "--encrypt", "--type", "luks2", "--batch-mode", "--header", directory.file("header")]
                        + ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", key, path])
                return ([path, "--header", directory.file("header"), "--passphrase-file", key], disk)
            case .qcowAES:
                let layer = try await maker.create(.qcowAES, "old", size: size)
                let chain = ShapeChain(layers: [layer])
                try await chain.io([
                    try maker.write(0, 200 << 10, mark: 1), try maker.write(3 << 20, 100_352, mark: 2, .noise),
                ])
                return try await opened(chain)
            case .qcow2: return try await opened(filled(.qcow2))
            case .qcow2AES: return try await opened(filled(.qcow2AES))
            case .qcow2LUKS: return try await opened(filled(.qcow2LUKS))
            case .chain:
                let base = try await maker.create(.qcow2LUKS, "base", size: size)
                try await ShapeChain(layers: [base]).io(
                    try maker.mixture(.qcow2LUKS, size: size, clusterSize: 65536, granularity: 512, seed: 7))
                return try await opened(filled(.qcow2AES, over: base))
            case .snapshot:
                let chain = try await filled(.qcow2AES)
                try await Tool.succeed(
                    "qemu-img", ["snapshot", "-q"] + chain.objectArguments + ["-c", "before", chain.name])
                try await chain.io([try maker.write(0, 1 << 20, mark: 9)])
                return (
                    [chain.path, "--snapshot", "before"] + chain.ringArguments,
                    try await chain.oracle(in: directory, snapshot: "before")
                )
            case .partition:
                let chain = try await filled(.qcow2AES)
                let disk = try await chain.oracle(in: directory)
                return (
                    [chain.path, "--offset", "1M", "--size", "3M"] + chain.ringArguments,
                    disk.subdata(in: 1 << 20..<4 << 20)
                )
            case .oddSize:
                let disk = DiskContents(mark: 4).bytes(at: 0, count: 1_234_567, .noise)
                return ([try directory.write("old", disk), "-f", "raw"], disk)
            }
        }
    }

    /// The disk of a new image, by a program that is not ours.
    private func disk(
        of new: String, _ format: String, size: Int, _ secret: String, in directory: TemporaryDirectory
    ) async throws -> Data {
        let object = ["--object", "secret,id=s,file=\(secret)"]
        let raw = directory.file("new.raw")
        switch format {
        case "raw": return try File.contents(new)
        case "qcow2": try await Tool.succeed("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", new, raw])
        case "qcow2-luks":
            try await Tool.succeed(
                "qemu-img",
                ["convert"] + object + ["-O", "raw", "--image-opts"]
                    + ["driver=qcow2,file.filename=\(new),encrypt.format=luks,encrypt.key-secret=s", raw])
        case "luks1":
            try await Tool.succeed(
                "qemu-img",
                ["convert"] + object + [
                    "-O", "raw", "--image-opts", "driver=luks,file.filename=\(new),key-secret=s", raw,
                ])
        default:
            // Without a kernel, cryptsetup decrypts in place.
            try await Tool.succeed("cp", [new, raw])
            try await Tool.succeed(
                "cryptsetup",
                [
                    "reencrypt", "--decrypt", "--batch-mode", "--header", directory.file("exported"), "--key-file",
                    secret,
                ]
                    + ["--force-offline-reencrypt", raw])
            return try File.contents(raw).prefix(size)
        }
        return try File.contents(raw)
    }

    @Test(arguments: Old.allCases)
    func `every old image is the same in every new one, by the reading of QEMU and cryptsetup`(_ old: Old) async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let (arguments, disk) = try await old.make(in: directory)
        let before = try File.contents(directory.file("old"))
        let secret = try directory.write("new.passphrase", text: "new secret")
        // The two that cryptsetup makes take turns: they cost most, and differ in nothing that depends on the old image.
        let index = Old.allCases.firstIndex(of: old) ?? 0
        for format in ["raw", "qcow2", "qcow2-luks", index % 2 == 0 ? "luks1" : "luks2"] {
            let new = directory.file("new-\(format)")
            let isEncrypted = format.contains("luks")
            let command =
                ["migrate"] + arguments + [new, "--to", format, "--json"]
                + (isEncrypted ? ["--new-passphrase-file", secret, "--iter-time", "10"] : [])
            if old == .oddSize, format != "raw" {
                try await Program.expectRefusal(command, status: 64, saying: "1234567 bytes", "--to raw")
                #expect(!File.exists(new) && !File.exists("\(new).partial"))
                continue
            }
            let outcome = try await Program.run(command)
            #expect(outcome.code == 0, "\(old) to \(format): \(outcome.errors)")
            let report = try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
            #expect(report.size == UInt64(disk.count) && report.data + report.zeros == report.size)
            #expect(report.digest == report.digestOfCopy)
            #expect(try await report.digest == Self.digest(of: disk, in: directory))
            let found = try await self.disk(of: new, format, size: disk.count, secret, in: directory)
            #expect(Difference.describe(found, disk) == nil, "\(old) to \(format)")
            #expect(!File.exists("\(new).partial"))
            #expect(try File.mode(new) == 0o600)
            if format.hasPrefix("qcow2") { try await expectSound(new, secret: isEncrypted ? secret : nil) }
        }
        #expect(try File.contents(directory.file("old")) == before, "the old image is as it was")
    }

    private struct Report: Decodable {
        let size, data, zeros, unreadable: UInt64
        let digest: String
        let digestOfCopy: String?
        let unreadableRanges: [Range]

        struct Range: Decodable, Equatable {
            let offset, length: UInt64
        }
    }

    /// As the manual says that anybody can compute it.
    private static func digest(of disk: Data, in directory: TemporaryDirectory) async throws -> String {
        let path = try directory.write("digested", disk)
        let line = try await Tool.shell(
            "split --bytes 1M --filter 'sha256sum' \(path) | cut -c 1-64 | xxd -r -p | sha256sum | cut -c 1-64")
        return line.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private func expectSound(_ path: String, secret: String?) async throws {
        let object = secret.map { ["--object", "secret,id=s,file=\($0)"] } ?? []
        let encryption = secret == nil ? "" : ",encrypt.format=luks,encrypt.key-secret=s"
        try await Tool.succeed(
            "qemu-img", ["check"] + object + ["--image-opts", "driver=qcow2,file.filename=\(path)\(encryption)"])
    }

    @Test
    func `the command at the end destroys the old image, and the new one is read as it says`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let old = directory.file("it's old, $HOME")
        try FileManager.default.moveItem(atPath: try await disk.encrypted("old secret"), toPath: old)
        try directory.write("passphrase", text: "old secret")
        try directory.write("new-passphrase", text: "new secret")
        let new = directory.file("it's new, $HOME")
        let secrets = ["--passphrase-file", directory.file("passphrase"), "--iter-time", "10"]
        let outcome = try await Program.run(
            ["migrate", old, new, "--new-passphrase-file", directory.file("new-passphrase")] + secrets)
        #expect(outcome.code == 0, "\(outcome.errors)")
        let commands = outcome.output.split(separator: "\n").filter { $0.hasPrefix("  ") }.map(String.init)
        try #require(
            commands.count == 2 && commands[0].hasPrefix("  nbdecrypt serve ") && commands[1].hasPrefix("  shred -u "))
        try await Tool.shell(
            """
            cd \(directory.path); PATH=$(dirname \(try Program.path)):$PATH
            \(commands[1])
            \(commands[0]) --passphrase-file new-passphrase --run 'nbdcopy "$uri" found.raw'
            """)
        #expect(!File.exists(old))
        let found = try File.contents(directory.file("found.raw"))
        #expect(found == disk.contents)
    }

    @Test
    func `the commands of the page on migration do what they are said to do`() async throws {
        let page = try DocumentationText("docs/migrating.md")
        func command(_ note: String) throws -> String {
            try #require(page.blocks("test: \(note)").first).contents.joined(separator: "\n")
        }
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let old = directory.file("old.qcow2")
        try FileManager.default.moveItem(atPath: try await disk.encrypted("old secret"), toPath: old)
        try directory.write("old-passphrase", text: "old secret")
        try directory.write("new-passphrase", text: "new secret")
        // The passphrases would be asked for; the time that QEMU takes for its key fails on a busy machine.
        let migrate = try command("migrate")
        let qemu = try command("qemu-img").replacing(
            "-o encrypt.format", with: "-o encrypt.iter-time=10,encrypt.format")
        let output = try await Tool.shell(
            """
            cd \(directory.path); PATH=$(dirname \(try Program.path)):$PATH
            \(migrate) --passphrase-file old-passphrase --new-passphrase-file new-passphrase --iter-time 10 --json > report
            nbdecrypt serve new.qcow2 --passphrase-file new-passphrase --run 'nbdcopy "$uri" new.raw'
            \(try command("digest"))
            rm new.qcow2
            for attempt in $(seq 200); do
                { \(qemu); } 2> errors && break
                grep -q 'accurate CPU usage' errors || { cat errors >&2; exit 1; }
            done
            nbdecrypt serve new.qcow2 --passphrase-file new-passphrase --run 'nbdcopy "$uri" qemu.raw'
            cmp new.raw qemu.raw
            """)
        let report = try JSONDecoder().decode(Report.self, from: try File.contents(directory.file("report")))
        #expect(output.contains(report.digest), "\(output)")
        let found = try File.contents(directory.file("new.raw"))
        #expect(found == disk.contents)
    }

    @Test(arguments: [("INT", 130), ("TERM", 143), ("HUP", 129)] as [(String, Int32)])
    func `a signal ends it with one sentence that says what is left, and its status`(
        _ signal: String, _ status: Int32
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try directory.write("old.img", Data(count: 1 << 20))
        let list = try directory.write("list", text: "old.img\n")
        let secret = ["-f", "raw", "--to", "luks2", "--new-secret", "command:kill -\(signal) $PPID; sleep 9"]
        let one = try await Program.run(["migrate", directory.file("old.img"), directory.file("new")] + secret)
        Program.expectRefusal(
            one, status: status,
            saying: [
                "stopped by signal \(status - 128): there is no new image, and \(directory.file("old.img")) is as it was"
            ])
        let many = try await Program.run(["migrate", "--list", list, "--output-dir", directory.file("out")] + secret)
        Program.expectRefusal(
            many, status: status,
            saying: ["complete new images are in \(directory.file("out"))", "the same command goes on"])
        let left = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        #expect(left.sorted() == ["list", "old.img", "out"])
    }

    // MARK: What it refuses

    @Test
    func `nothing is overwritten, and no file of the old image by any of its names`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let base = try await maker.create(.qcow2, "base", size: 1 << 20)
        let old = try await maker.create(.qcow2, "old", size: 1 << 20, backing: ("base", "qcow2"))
        _ = base
        try await Tool.shell(
            """
            cd \(directory.path); ln -s old link; ln old hard; mkdir sub; ln -s ../base sub/link; echo mine > other
            ln -s nowhere dangling; mkdir directory
            """)
        let names = [
            ("old", "is a file of the old image"), ("link", "the same file"), ("hard", "the same file"),
            ("base", "is a file of the old image"),
            ("sub/link", "the same file"), ("sub/../old", "the same file"), ("other", "exists"),
            ("dangling", "exists"), ("directory", "exists"),
        ]
        let before = try ["old", "base", "other"].map { try File.contents(directory.file($0)) }
        for (name, sentence) in names {
            let outcome = try await Program.run(["migrate", old.path, directory.file(name), "--to", "qcow2"])
            #expect([64, 74].contains(outcome.code), "\(name): \(outcome.errors)")
            #expect(outcome.errors.contains(sentence), "\(name): \(outcome.errors)")
        }
        #expect(try ["old", "base", "other"].map { try File.contents(directory.file($0)) } == before)
        let left = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        #expect(!left.contains { $0.hasSuffix(".partial") }, "\(left)")
        // Nor a copy that another run may be making.
        try directory.write("new.partial", text: "half of it")
        try await Program.expectRefusal(
            ["migrate", old.path, directory.file("new"), "--to", "qcow2"], status: 74, saying: "new.partial exists",
            "rm ")
        #expect(try File.text(directory.file("new.partial")) == "half of it")
    }

    @Test
    func `a format that cannot be told is asked for, and a secret that fits nothing is refused`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let raw = try directory.write("old.img", Data(count: 1 << 20))
        let secret = try directory.write("secret", text: "secret")
        let new = directory.file("new.img")
        try await Program.expectRefusal(["migrate", "-f", "raw", raw, new], status: 64, saying: "--to luks2")
        try await Program.expectRefusal(
            ["migrate", "-f", "raw", raw, new, "--to", "raw", "--new-passphrase-file", secret], status: 64,
            saying: "takes no passphrase")
        let outcome = try await Program.run(["migrate", raw, new, "--new-passphrase", "x"])
        #expect(outcome.code == 64 && outcome.errors.contains("can be seen by everybody"))
        // What the name says.
        let copied = try await Program.run(["migrate", "-f", "raw", raw, directory.file("new.raw")])
        #expect(copied.code == 0 && copied.output.contains("raw, not encrypted"), "\(copied.errors)")
        // Nobody to ask, and an empty secret.
        let nobody = try await Tool.run(
            "setsid", ["--wait", Program.path, "migrate", "-f", "raw", raw, new, "--to", "luks2"])
        #expect(nobody.code == 77 && nobody.errors.contains("--new-passphrase-file"), "\(nobody.errors)")
        let empty = try directory.write("empty", text: "")
        try await Program.expectRefusal(
            ["migrate", "-f", "raw", raw, new, "--to", "luks2", "--new-passphrase-file", empty], status: 77,
            saying: "is empty")
        #expect(!File.exists(new) && !File.exists("\(new).partial"))
    }

    @Test
    func `without the tool that makes the new image, it says which package has it`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let raw = try directory.write("old.img", Data(count: 1 << 20))
        let secret = try directory.write("secret", text: "secret")
        for (format, package) in [("qcow2-luks", "qemu-utils"), ("luks2", "cryptsetup-bin")] {
            let outcome = try await Program.run(
                ["migrate", "-f", "raw", raw, directory.file("new"), "--to", format, "--new-passphrase-file", secret],
                environment: ["PATH": directory.path])
            Program.expectRefusal(outcome, status: 66, saying: ["apt install \(package)"])
        }
    }

    // MARK: What goes wrong on the way

    @Test
    func `what cannot be read ends it, or is zeros that are listed`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let size = 4 << 20
        let layer = try await maker.create(.qcow2LUKS, "old", size: size)
        let chain = ShapeChain(layers: [layer])
        try await chain.io([try maker.write(0, size, mark: 6, .noise)])
        var disk = try await chain.oracle(in: directory)
        // Two clusters of it, the last that were written.
        let cluster: UInt64 = 64 << 10
        let file = try File.size(layer.path) / cluster * cluster
        try await Tool.succeed("truncate", ["--size", "\(file - 2 * cluster)", layer.path])
        let new = directory.file("new.raw")
        let outcome = try await Program.run(["migrate", layer.path, new] + chain.ringArguments)
        #expect(outcome.code == 65 && outcome.errors.contains("--allow-damaged"), "\(outcome.errors)")
        #expect(!File.exists(new) && !File.exists("\(new).partial"))

        let damaged = try await Program.run(
            ["migrate", layer.path, new, "--allow-damaged", "--json"] + chain.ringArguments)
        #expect(damaged.code == 2, "\(damaged.errors)")
        let report = try JSONDecoder().decode(Report.self, from: Data(damaged.output.utf8))
        #expect(report.unreadable == 2 * cluster, "\(report)")
        for range in report.unreadableRanges {
            disk.resetBytes(in: Int(range.offset)..<Int(range.offset + range.length))
        }
        let found = try File.contents(new)
        #expect(Difference.describe(found, disk) == nil)
    }

    /// An ext4 in the second partition; one file has lost a cluster of the image, which nobody but this test knows.
    @Test
    func `a file that has lost bytes is named, where debugfs can read the copy`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let lost = DiskContents(mark: 7).bytes(at: 0, count: 300_000, .noise)
        try FileManager.default.createDirectory(atPath: directory.file("tree/a b"), withIntermediateDirectories: true)
        try directory.write("tree/a b/lost?", lost)
        try directory.write("tree/kept", DiskContents(mark: 8).bytes(at: 0, count: 100_000, .noise))
        let image = directory.file("old.qcow2")
        try await Tool.shell(
            """
            cd \(directory.path); truncate -s 12M disk; printf 'start=2048,size=2048\nstart=6144,size=16384\n' | sfdisk -q disk
            mke2fs -q -t ext4 -b 1024 -d tree -E offset=$((6144*512)) disk 8M
            qemu-img convert -f raw -O qcow2 disk old.qcow2
            """)
        let disk = try File.contents(directory.file("disk"))
        let place = try #require(disk.range(of: lost[100_000..<101_000])).lowerBound / 65536 * 65536
        let editor = Qcow2Editor(path: image)
        // Far behind the end of the file.
        try editor.set(UInt64(1) << 63 | 1 << 40, at: editor.l2Place(of: place))
        let start = try #require(disk.range(of: lost[..<512])).lowerBound
        let expected = min(place + 65536, start + lost.count) - max(place, start)

        struct Report: Decodable {
            struct Files: Decodable {
                struct File: Decodable {
                    let fileSystem: String
                    let paths: [String]
                    let lost: UInt64
                }

                let files: [File]
                let bytesInNoFile: UInt64
                let notes: [String]
            }

            let lostFiles: Files
        }
        func migrate(_ new: String, _ more: [String] = [], environment: [String: String] = [:]) async throws
            -> Tool.Outcome
        {
            let outcome = try await Program.run(
                ["migrate", image, directory.file(new), "--allow-damaged"] + more, environment: environment)
            #expect(outcome.code == 2, "\(outcome.errors)")
            return outcome
        }
        let outcome = try await migrate("new?offset=1.raw", ["--json"])
        let files = try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8)).lostFiles
        let file = try #require(files.files.first { $0.paths == ["/a b/lost?"] }, "\(outcome.output)")
        // Its last block is not full.
        #expect(file.fileSystem == "ext4 in partition 2" && (Int(file.lost) - expected) / 1024 == 0, "\(files)")
        #expect(!files.files.contains { $0.paths == ["/kept"] } && files.notes.isEmpty, "\(files)")
        #expect(Int(files.files.reduce(files.bytesInNoFile) { $0 + $1.lost }) == 65536, "\(files)")

        // For people; and where it cannot be told, that is said.
        let text = try await migrate("b.raw").output
        #expect(text.contains("bytes of /a b/lost? (ext4 in partition 2)"), "\(text)")
        let other = try await migrate("c.qcow2", ["--to", "qcow2"]).output
        #expect(other.contains("files are told of a copy with --to raw only"), "\(other)")
    }

    @Test
    func `a full disk leaves nothing behind`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = DiskContents(mark: 5).bytes(at: 0, count: 8 << 20, .noise)
        let old = try directory.write("old", disk)
        // A limit on the size of files is a disk that is full, to the program.
        let outcome = try await Tool.run(
            "prlimit",
            ["--fsize=3000000:unlimited", Program.path, "migrate", "-f", "raw", old, directory.file("new.raw")])
        #expect(outcome.code == 74, "\(outcome.errors)")
        #expect(outcome.errors.contains("make room") || outcome.errors.contains("cannot be made"), "\(outcome.errors)")
        let left = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        #expect(left == ["old"], "\(left)")
    }

    @Test
    func `ended at any moment, there is no new file, and the old one is as it was`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let layer = try await maker.create(.qcow2AES, "old", size: 32 << 20)
        try await ShapeChain(layers: [layer]).io([try maker.write(0, 24 << 20, mark: 8)])
        let before = try File.contents(layer.path)
        let outcome = try await Tool.run(
            "/usr/bin/python3",
            [
                Program.helper("killed_migrations.py"), Program.path, layer.path, layer.passphrasePath ?? "",
                directory.path,
            ])
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
        #expect(try File.contents(layer.path) == before)
    }
}
