// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `serve --config FILE`.
@Suite(.fewAtATime)
struct ConfigTests {
    @Test func `every image is served as its entry says, with paths from the directory of the file`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try FileManager.default.createDirectory(atPath: directory.file("sub"), withIntermediateDirectories: false)
        let maker = ShapeMaker(directory: directory)
        let contents = DiskContents(mark: 7).bytes(at: 0, count: 1 << 20, .plain)
        try directory.write("outside.raw", contents)
        var oracles: [String: Data] = ["window": contents[4096..<12_288], "plain.raw": contents]
        try directory.write("sub/plain.raw", contents)
        var secrets: [String] = []
        for (name, kind) in [("aes", ShapeLayer.Kind.qcow2AES), ("luks", .qcow2LUKS)] {
            let layer = try await maker.create(kind, "sub/\(name)", size: 1 << 20)
            let chain = ShapeChain(layers: [layer])
            try await chain.io([try maker.write(0, 1 << 20, mark: 9)])
            if kind == .qcow2LUKS {
                try await Tool.succeed(
                    "qemu-img", ["snapshot", "-q"] + chain.objectArguments + ["-c", "old", chain.name])
                oracles["old"] = try await chain.oracle(in: directory)
                try await chain.io(["write -P 3 0 64k"])
            }
            oracles[name] = try await chain.oracle(in: directory)
            secrets.append((layer.passphrasePath ?? "").replacing(directory.path, with: ".."))
        }
        oracles["luks/snapshot/old"] = oracles["old"]
        oracles["top"] = contents
        oracles["unsaid"] = contents
        try HostileImage(backing: directory.file("outside.raw")).write(to: directory.file("sub/top"))
        try HostileImage(backing: "middle", format: nil).write(to: directory.file("sub/unsaid"))
        try HostileImage(backing: "plain.raw").write(to: directory.file("sub/middle"))
        let config = try directory.write(
            "sub/config.json",
            text: """
                {"images": [
                  {"path": "aes", "passphrase-file": "\(secrets[0])"},
                  {"path": "luks", "key-file": "\(secrets[1])", "exports": ["disk", "snapshot/old"]},
                  {"path": "luks", "name": "old", "key-file": "\(secrets[1])", "snapshot": "1", "format": "qcow2"},
                  {"path": "\(directory.path)/outside.raw", "name": "window", "format": "raw", "offset": 4096, "size": "8K"},
                  {"path": "plain.raw", "format": "raw"},
                  {"path": "top", "references": "deny", "allow-references": ["../outside.raw"]},
                  {"path": "unsaid", "backing-format": "qcow2"}
                ]}
                """)
        for (place, name) in [
            ("/", config), (directory.path, "sub/config.json"), (directory.file("sub"), "config.json"),
        ] {
            let arguments = [
                "-c", "cd \(place); exec \"$@\"", "bash", try Program.path, "serve", "--config", name, "--socket",
                directory.file("s"),
            ]
            try await ServerUnderTest.run(arguments, program: "/bin/bash", in: directory) { server in
                #expect(try server.exports().keys.sorted() == oracles.keys.sorted())
                for (name, oracle) in oracles { try server.expect(oracle, at: name) }
                try server.expect(try #require(oracles["aes"]))
            }
        }
    }

    @Test func `a writable image, and one whose exports are listed in a text, are served as their entries say`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let contents = DiskContents(mark: 1).bytes(at: 0, count: 1 << 20, .plain)
        for name in ["read", "written"] { try directory.write(name, contents) }
        let config = try directory.write(
            "c",
            text: """
                {"images": [{"path": "read", "format": "raw", "exports": "disk"},
                 {"path": "written", "format": "raw", "writable": true, "detect-zeroes": true}]}
                """)
        try await ServerUnderTest.run(
            ["serve", "--config", config, "--socket", directory.file("s")], in: directory
        ) { server in
            try server.expectExports("read", "written")
            #expect(server.instructions.contains("Serving 2 exports ("), "\(server.instructions)")
            #expect(try LibNBDClient(server.uri(of: "read")).isReadOnly)
            #expect(try !LibNBDClient(server.uri(of: "written")).isReadOnly)
        }
    }

    @Test func `a partition, and a container with a header of its own, can be chosen`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = try directory.write("disk.raw", DiskContents(mark: 1).bytes(at: 0, count: 8 << 20, .plain))
        try await Tool.succeed(
            "sfdisk", ["-q", "--wipe", "never", disk], input: Array("label: dos\nstart=2048,size=4M\n".utf8))
        let luks = LUKSMaker(directory: directory)
        let container = try await luks.format()
        try await luks.cryptsetup(["luksHeaderBackup", container, "--header-backup-file", directory.file("header")])
        try directory.write("p", text: "correct horse")
        let config = try directory.write(
            "c",
            text: """
                {"images": [{"path": "disk.raw", "format": "raw", "partition": 1, "name": "part one"},
                 {"path": "disk.luks", "header": "header", "passphrase-file": "p"}]}
                """)
        let partition = try File.contents(disk)[(1 << 20)..<(5 << 20)]
        try await ServerUnderTest.run(
            ["serve", "--config", config, "--socket", directory.file("s")], in: directory
        ) { server in
            try server.expect(partition, at: "part one")
            #expect(try LibNBDClient(server.uri(of: "disk.luks")).size == 4 << 20)
        }
    }

    @Test
    func `images of the command line come after those of the file; its options hold for what the file does not say`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let outside = try TemporaryDirectory()
        defer { outside.remove() }
        try outside.write("base", DiskContents(mark: 2).bytes(at: 0, count: 1 << 20, .plain))
        let first = try HostileImage(backing: outside.file("base")).write(to: directory.file("first"))
        let second = try HostileImage(backing: outside.file("base")).write(to: directory.file("second"))
        let config = try directory.write("c", text: #"{"images":[{"path":"\#(first)","name":"one"}]}"#)
        let arguments = ["serve", second, "--config", config, "--socket", directory.file("s")]
        try await ServerUnderTest.run(arguments + ["--references", "allow"], in: directory) { server in
            try server.expectExports("one", "second")
        }
        try await Program.expectRefusal(arguments, status: 65, saying: first, "absolute name")
        let clash = try directory.write("d", text: #"{"images":[{"path":"first","name":"second"}]}"#)
        try await Program.expectRefusal(
            ["serve", second, "--config", clash, "--references", "allow", "--socket", directory.file("s")], status: 64,
            saying: "the name second")
        // A single image of a file has a name, too.
        try await ServerUnderTest.run(
            ["serve", "--config", config, "--references", "allow", "--socket", directory.file("s")], in: directory
        ) { server in try server.expectExports("one") }
    }

    @Test(arguments: [
        ("", "JSON"), ("{", "JSON"), ("[]", "the file"), ("{}", "images is missing"),
        (#"{"images":[]}"#, "there is none"), (#"{"images":{}}"#, "images"),
        (#"{"images":[{}]}"#, "path is missing"),
        (#"{"images":[{"path":1}]}"#, "path"), (#"{"images":[{"path":""}]}"#, "the path is empty"),
        (#"{"images":[{"path":"x","nmae":"y"}]}"#, "nmae is not known; there are path, name"),
        (#"{"images":[{"path":"x","passphrase":"y"}]}"#, "passphrase is not known"),
        (#"{"images":[{"path":"x"}],"extra":1}"#, "extra is not known; there are images"),
        (
            #"{"images":[{"path":"x","format":"vmdk"}]}"#,
            "The value 'vmdk' is invalid for '--format <format>'. Please provide one of 'raw'"
        ),
        (#"{"images":[{"path":"x","backing-format":"vmdk"}]}"#, "the format vmdk is not known"),
        (#"{"images":[{"path":"x","backing-format":["raw",1]}]}"#, "backing-format"),
        (#"{"images":[{"path":"x","references":"maybe"}]}"#, "'deny', 'same-directory' or 'allow'"),
        (#"{"images":[{"path":"x","socket":"y"}]}"#, "socket is not known"),
        (#"{"images":[{"path":"x","help":true}]}"#, "help is not known"),
        (#"{"images":[{"path":"x","passphrase-fd":3}]}"#, "passphrase-fd is not known"),
        (#"{"images":[{"path":"x","secret":"0=fd:3"}]}"#, "for the command line: name a file"),
        (#"{"images":[{"path":"x","key-file":"-"}]}"#, "for the command line: name a file"),
        (#"{"images":[{"path":"x","writable":false}]}"#, "writable: allowed are"),
        (#"{"images":[{"path":"x","writable":"yes"}]}"#, "--writable"),
        (#"{"images":[{"path":"x","format":true}]}"#, "Missing value for '--format <format>'"),
        (#"{"images":[{"path":"x","writable":true,"force-share":true}]}"#, "--force-share exclude each other"),
        (#"{"images":[{"path":"x","key-slot":32}]}"#, "--key-slot takes a number from 0 to 31"),
        (#"{"images":[{"path":"x","partition":0}]}"#, "--partition takes a number from 1 on"),
        (#"{"images":[{"path":"x","partition":-1}]}"#, "--partition takes a number from 1 on"),
        (#"{"images":[{"path":"x","sector-size":520}]}"#, "--sector-size takes 512, 1024"),
        (#"{"images":[{"path":"x","size":0}]}"#, "--size takes a number above 0"),
        (#"{"images":[{"path":"x","size":-1}]}"#, "'-1' is invalid for '--size <size>'"),
        (#"{"images":[{"path":"x","size":1.5}]}"#, "images.0.size: allowed are"),
        (#"{"images":[{"path":"x","size":null}]}"#, "size"),
        (#"{"images":[{"path":"x","offset":"4X"}]}"#, "offset"),
        (#"{"images":[{"path":"x","exports":{}}]}"#, "images.0.exports: allowed are"),
        (#"{"images":[{"path":"x","size":18446744073709551616}]}"#, "size"),
    ])
    func `what is wrong with a file is told in one sentence`(_ text: String, _ says: String) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let config = try directory.write("config.json", text: text)
        try await Program.expectRefusal(
            ["serve", "--config", config, "--socket", directory.file("s")], status: 64, saying: config, says)
    }

    @Test func `a file that cannot be read, or is no configuration, is refused`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let socket = ["--socket", directory.file("s")]
        try await Program.expectRefusal(
            ["serve", "--config", directory.file("none")] + socket, status: 66, saying: "none")
        try await Program.expectRefusal(
            ["serve", "--config", directory.path] + socket, status: 66, saying: directory.path)
        let large = try directory.write("large", Data(count: 2 << 20))
        try await Program.expectRefusal(["serve", "--config", large] + socket, status: 64, saying: "right file")
        let binary = try directory.write("binary", Data([0xFF, 0xFE, 0, 1]))
        try await Program.expectRefusal(["serve", "--config", binary] + socket, status: 64, saying: "JSON")
        // The image that is missing is told under its full name.
        let config = try directory.write("c", text: #"{"images":[{"path":"gone"}]}"#)
        try await Program.expectRefusal(
            ["serve", "--config", config] + socket, status: 66, saying: directory.file("gone"))
    }
}
