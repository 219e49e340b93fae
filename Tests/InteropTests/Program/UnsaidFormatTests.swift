// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Files whose format nobody says, though their contents look like one: read as raw, a container's own bytes would pass for a
/// disk.
@Suite(.fewAtATime)
struct UnsaidFormatTests {
    /// What a backing file can be.
    enum Base: String, CaseIterable, Sendable {
        case qcow, qcow2, luks, vmdk, qed, vhdx, vdi, parallels, vpc, secondLUKS2Header

        /// The format that nbdecrypt calls it; nil: it does not read it.
        var format: String? {
            switch self {
            case .qcow, .qcow2, .luks: rawValue
            case .secondLUKS2Header: "luks"
            default: nil
            }
        }

        func make(_ name: String, in directory: TemporaryDirectory) async throws {
            let path = directory.file(name)
            switch self {
            case .secondLUKS2Header:
                // The first copy is lost; the second says where it lies.
                var bytes = [UInt8](repeating: 0, count: 1 << 20)
                bytes.replaceSubrange(16384..<16390, with: Array("SKUL".utf8) + [0xBA, 0xBE])
                bytes[16384 + 256 + 6] = 0x40
                try directory.write(name, Data(bytes))
            case .luks: _ = try await LUKSMaker(directory: directory).format(name)
            default: try await Tool.succeed("qemu-img", ["create", "-q", "-f", rawValue, path, "1M"])
            }
        }
    }

    @Test(arguments: Base.allCases, ["qcow", "qcow2"])
    func `a backing file that looks like a container is refused until its format is said, to serve and to audit`(
        _ base: Base, under top: String
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await base.make("base", in: directory)
        let image = directory.file("top")
        try await Tool.shell(
            "cd \(directory.path); qemu-img create -q -u -f \(top) -F raw -b base top 1M")
        if top == "qcow2" {
            // The header extension with the format becomes one that nobody knows.
            let editor = Qcow2Editor(path: image)
            try #require(try editor.word(at: 112) == 0xE279_2ACA)
            try editor.set(UInt32(0x6E6F_6E65), at: 112)
        }
        let advice = base.format.map { "--backing-format 1=\($0) to have it read" } ?? "does not read"
        for command in [["serve", image, "--socket", directory.file("s")], ["audit", image]] {
            let outcome = try await Program.run(command)
            #expect(outcome.code == 65, "\(outcome.errors)")
            for part in [image, "(base)", "looks like", advice, "--backing-format 1=raw"] {
                #expect(outcome.errors.contains(part), "\(part): \(outcome.errors)")
            }
            #expect(!outcome.output.contains("clean"))
        }
        // What is said is done: the guest may have written this itself, as its container perhaps.
        let bytes = try File.contents(directory.file("base")).prefix(4096)
        let export = base.format == "luks" ? "ciphertext" : "layer/1"
        for format in ["raw", "1=raw"] {
            try await ServerUnderTest.run(
                ["serve", image, "--socket", directory.file("s"), "--backing-format", format, "--exports", export],
                in: directory
            ) { server in
                let client = try LibNBDClient(server.uri(of: export))
                #expect(try client.read(bytes.count, at: 0) == bytes)
            }
        }
    }

    @Test func `a backing file without a known signature is read as raw, with a warning, when no format is said`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let contents = DiskContents(mark: 4).bytes(at: 0, count: 1 << 20, .plain)
        try directory.write("base", contents)
        let image = try HostileImage(backing: "base", format: nil).write(to: directory.file("top"))
        let outcome = try await ServerUnderTest.run(
            ["serve", image, "--socket", directory.file("s")], in: directory
        ) { server in try server.expect(contents) }
        #expect(outcome.errors.contains("(base) has: it is read as raw; say --backing-format"), "\(outcome.errors)")
    }

    @Test func `an image that says raw is believed, whatever its backing file looks like`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await Tool.succeed("qemu-img", ["create", "-q", "-f", "qcow2", directory.file("base"), "1M"])
        for format in ["raw", "file"] {
            let image = try HostileImage(backing: "base", format: format).write(to: directory.file("top"))
            let oracle = ShapeChain(layers: [
                ShapeLayer(kind: .qcow2, path: image), ShapeLayer(kind: .raw, path: directory.file("base")),
            ])
            let disk = try await oracle.oracle(in: directory)
            try await ServerUnderTest.run(["serve", image, "--socket", directory.file("s")], in: directory) { server in
                try server.expect(disk)
            }
        }
    }

    @Test func `every layer of qcow over qcow over qcow2 gets the format that is said for it, in every command`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let base = try await maker.create(.qcow2, "base", size: 1 << 20)
        try await ShapeChain(layers: [base]).io([try maker.write(0, 1 << 20, mark: 3)])
        let middle = try await maker.create(.qcow, "middle", size: 1 << 20, backing: ("base", "qcow2"))
        try await ShapeChain(layers: [middle, base]).io([try maker.write(4096, 8192, mark: 4)])
        let top = try await maker.create(.qcow, "top", size: 1 << 20, backing: ("middle", "qcow"))
        let chain = ShapeChain(layers: [top, middle, base])
        try await chain.io([try maker.write(16384, 8192, mark: 5)])
        let oracle = try await chain.oracle(in: directory)
        let socket = ["--socket", directory.file("s")]
        // One refusal after the other says what is missing.
        let serve = ["serve", top.path] + socket
        try await Program.expectEnd(serve, status: 65, saying: "--backing-format 1=qcow ")
        try await Program.expectEnd(
            serve + ["--backing-format", "1=qcow"], status: 65, saying: "layer 1", "--backing-format 2=qcow2 ")
        for formats in [["1=qcow", "2=qcow2"], ["2=qcow2", "qcow"], ["qcow2", "1=qcow"]] {
            let options = formats.flatMap { ["--backing-format", $0] }
            try await ServerUnderTest.run(serve + options, in: directory) { server in try server.expect(oracle) }
            let audit = try await Program.run(["audit", top.path] + options)
            #expect(audit.code == 0 && audit.output.contains("clean"), "\(audit.errors)")
            let list = formats.map { "\"\($0)\"" }.joined(separator: ",")
            let config = try directory.write(
                "c.json", text: #"{"images":[{"path":"top","backing-format":[\#(list)]}]}"#)
            try await ServerUnderTest.run(["serve", "--config", config] + socket, in: directory) { server in
                try server.expect(oracle, at: "top")
            }
        }
        let unsaid = try await Program.run(["audit", top.path, "--backing-format", "1=qcow", "--json"])
        #expect(unsaid.code == 65 && unsaid.output.contains("\"verdict\" : \"incomplete\""), "\(unsaid.output)")
    }

    @Test func `numbers and formats that cannot be meant are wrong usage`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try directory.write("base", DiskContents(mark: 1).bytes(at: 0, count: 1 << 20, .plain))
        let image = try HostileImage(backing: "base").write(to: directory.file("top"))
        for (formats, says) in [
            (["0=qcow2"], "the image itself is layer 0"), (["64=raw"], "layers 1 to 63"),
            (["-1=raw"], "layers 1 to 63"),
            (["x=raw"], "layers 1 to 63"), (["=raw"], "layers 1 to 63"), (["1=vmdk"], "vmdk is not known"),
            (["1="], "is not known"), (["raw=1"], "1 is not known"), (["raw", "qcow2"], "given twice"),
            (["1=raw", "1=luks"], "of layer 1 is given twice"), (["2=raw"], "has the number 1"),
            (["1=qcow2"], "says that \(directory.file("base")) is raw"),
        ] {
            let options = formats.map { "--backing-format=\($0)" }
            for command in [["serve", image, "--socket", directory.file("s")], ["audit", image]] {
                let outcome = try await Program.run(command + options)
                #expect(outcome.code == 64 && outcome.errors.contains(says), "\(formats): \(outcome.errors)")
            }
        }
        for (value, says) in [
            (#""0=raw""#, "layer 0"), (#"["raw","luks"]"#, "given twice"), ("7", "backing-format"),
            (#"["2=raw"]"#, "has the number 1"),
        ] {
            let config = try directory.write("c", text: #"{"images":[{"path":"top","backing-format":\#(value)}]}"#)
            let outcome = try await Program.run(["serve", "--config", config, "--socket", directory.file("s")])
            #expect(outcome.code == 64 && outcome.errors.contains(says), "\(value): \(outcome.errors)")
        }
        // To say what the image says is no mistake.
        try await ServerUnderTest.run(
            ["serve", image, "--socket", directory.file("s"), "--backing-format", "1=raw"], in: directory
        ) { _ in }
    }

    @Test(arguments: Base.allCases)
    func `-f raw over a container is refused when a secret is given, and told otherwise`(_ base: Base) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = directory.file("image")
        try await base.make("image", in: directory)
        let secret = try directory.write("p", text: "correct horse")
        let serve = ["serve", "-f", "raw", image, "--socket", directory.file("s")]
        let says = base.format.map { "say -f \($0)" } ?? "nbdecrypt does not read that"
        for options in [
            ["--passphrase-file", secret], ["--key-file", secret], ["--secret", "0=key-file:\(secret)"],
            ["--volume-key-file", secret], ["--raw-key-file", secret],
        ] {
            try await Program.expectRefusal(
                serve + options, status: 65, saying: image, "-f raw", "looks like", says, secret)
        }
        let bytes = try File.contents(image)
        let outcome = try await ServerUnderTest.run(serve, in: directory) { server in try server.expect(bytes) }
        #expect(outcome.errors.contains("are taken as they are, as -f raw says"), "\(outcome.errors)")
    }

    @Test func `serve --audit opens every file once: what was examined is what is served`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await Tool.shell(
            """
            cd \(directory.path)
            qemu-img create -q -f qcow2 base 1M
            qemu-img create -q -f qcow2 -b base -F qcow2 -o data_file=data top
            """)
        let luks = LUKSMaker(directory: directory)
        let container = try await luks.format()
        try await luks.cryptsetup(["luksHeaderBackup", container, "--header-backup-file", directory.file("header")])
        let secret = try directory.write("p", text: "correct horse")
        let withHeader = [container, "--header", directory.file("header"), "--passphrase-file", secret]
        for (file, arguments) in [
            ("top", [directory.file("top")]), ("base", [directory.file("top")]), ("data", [directory.file("top")]),
            ((container as NSString).lastPathComponent, withHeader), ("header", withHeader),
        ] {
            let result = try await Tool.succeed(
                "python3",
                [Program.helper("watch_opens.py"), directory.file(file), try Program.path, "serve"] + arguments
                    + ["--audit", "--run", "true"])
            #expect(result == "0 1\n", "\(file): \(result)")
        }
    }
}
