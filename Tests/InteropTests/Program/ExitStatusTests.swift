// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Every refusal has its status and one sentence.
@Suite(.fewAtATime)
struct ExitStatusTests {
    @Test(arguments: [["--help"], ["serve", "--help"], ["info", "--help"]])
    func `--help lists every option and every exit status`(_ arguments: [String]) async throws {
        let text = try await Tool.succeed(try Program.path, arguments)
        for status in ["0", "64", "65", "66", "70", "74", "77"] {
            #expect(text.contains(try Regex("\\b\(status)\\b")), "status \(status)")
        }
        guard arguments[0] == "serve" else { return }
        for option in [
            "-f, --format", "-k, --socket", "-b, --bind", "-p, --port", "-x, --export-name", "--passphrase-file",
            "--passphrase-fd", "--key-file", "--key-file-offset", "--key-file-size", "--raw-key-file",
            "--volume-key-file",
            "--key-slot", "--header", "--allow-null-cipher", "--allow-linear-segments", "--max-kdf-iterations",
            "--max-kdf-memory",
            "--max-kdf-work", "--max-kdf-seconds", "--no-passphrase-check", "--once", "--run",
            "--pid-file", "--insecure-plaintext", "--sector-size",
        ] {
            #expect(text.contains(option), "\(option)")
        }
    }

    @Test func `--version prints a version`() async throws {
        let text = try await Tool.succeed(try Program.path, ["--version"])
        #expect(text.contains(/^\d+\.\d+\.\d+/))
    }

    @Test(arguments: [
        ["serve"], ["serve", "IMAGE", "--nonsense"], ["serve", "IMAGE", "-f", "vmdk"], ["nonsense"],
        ["serve", "IMAGE", "IMAGE", "--partition", "1"], ["serve", "IMAGE", "--sector-size", "513"],
        ["serve", "IMAGE", "--port", "65536"], ["serve", "IMAGE", "--port", "x"],
        ["serve", "IMAGE", "--socket", "SOCKET", "--port", "0"],
        ["serve", "IMAGE", "--socket", "SOCKET", "--bind", "127.0.0.1"],
        ["serve", "IMAGE", "--max-connections", "0", "--socket", "SOCKET"],
        ["serve", "IMAGE", "--passphrase-file", "-", "--key-file", "-", "--socket", "SOCKET"],
        ["serve", "IMAGE", "--passphrase-fd", "3", "--passphrase-fd", "3", "--socket", "SOCKET"],
        ["serve", "IMAGE", "--passphrase", "secret"], ["serve", "IMAGE", "--key-slot", "32"],
        ["serve", "IMAGE", "--key-file", "k", "--key-file", "l", "--key-file-size", "7"],
        ["serve", "IMAGE", "--key-file-offset", "1"],
        ["serve", "IMAGE", "--max-kdf-memory", "4X"], ["info", "IMAGE", "--passphrase-file", "p"],
        ["serve", "IMAGE", "--passphrase-fd", "0", "--raw-key-file", "b", "--socket", "SOCKET"],
        ["serve", "IMAGE", "--export-name", String(repeating: "n", count: 4097), "--socket", "SOCKET"],
        ["serve", "IMAGE", "--bind", "0.0.0.0", "--port", "0"], ["serve", "IMAGE", "--bind", "::", "--port", "0"],
        ["info"], ["info", "IMAGE", "--socket", "x"],
    ])
    func `wrong usage ends with 64 and leaves nothing behind`(_ template: [String]) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await SmallDisk(directory).plain()
        let arguments = template.map { $0 == "IMAGE" ? image : $0 == "SOCKET" ? directory.file("s") : $0 }
        let outcome = try await Program.run(arguments)
        #expect(outcome.code == 64, "\(outcome.errors)")
        #expect(outcome.output.isEmpty && !outcome.errors.isEmpty)
        #expect(!File.exists(directory.file("s")))
    }

    @Test(arguments: ["serve", "info"])
    func `files that cannot be opened end with 66`(_ command: String) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let place = command == "serve" ? ["--socket", directory.file("s")] : []
        try await Program.expectRefusal(
            [command, directory.file("none")] + place, status: 66, saying: "none", "No such file", "check the name")
        try await Program.expectRefusal(
            [command, directory.path] + place, status: 66, saying: "is a directory")
        try await Tool.succeed("mkfifo", [directory.file("fifo")])
        try await Program.expectRefusal(
            [command, directory.file("fifo")] + place, status: 66, saying: "neither a file nor a block device")
        try await Program.expectRefusal(
            [command, "/dev/null"] + place, status: 66, saying: "neither a file nor a block device")
        try await Program.expectRefusal(
            [command, "\(directory.path)/none/image"] + place, status: 66, saying: "No such file")
        #expect(!File.exists(directory.file("s")))
    }

    @Test func `a file that this user may not read ends with 66`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await SmallDisk(directory).plain()
        try await Tool.shell(
            "chmod 755 \(directory.path); chmod 000 \(image); cp \(try Program.path) \(directory.file("b"))")
        let command = [directory.file("b"), "info", image]
        let isRoot = try await Tool.succeed("id", ["-u"]) == "0\n"
        let outcome =
            isRoot
            ? try await Tool.run("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups"] + command)
            : try await Tool.run(command[0], Array(command.dropFirst()))
        Program.expectRefusal(outcome, status: 66, saying: ["Permission denied", "run this as a user who may read"])
    }

    @Test func `unrecognised contents are refused with 65, and -f raw serves them as they are`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try disk.raw()
        try await Program.expectRefusal(["serve", image] + disk.socket, status: 65, saying: "say so with -f raw")
        try await Program.expectRefusal(["info", image], status: 65, saying: "say so with -f raw")
        try await Program.expectRefusal(
            ["serve", image, "-f", "qcow2"] + disk.socket, status: 65, saying: "is not qcow2")
        try await ServerUnderTest.run(["serve", "-f", "raw", image] + disk.socket, in: directory) { server in
            try server.expectContents(disk.contents)
        }
        let empty = try directory.write("empty", text: "")
        try await Program.expectRefusal(["serve", empty] + disk.socket, status: 65, saying: "is empty")
    }

    @Test func `-f raw serves a qcow2 file as the bytes it is, with a warning`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.plain()
        let bytes = try File.contents(image)
        let outcome = try await ServerUnderTest.run(["serve", "-f", "raw", image] + disk.socket, in: directory) {
            server in
            try server.expectContents(bytes)
        }
        #expect(outcome.errors.contains("warning: the contents look like a qcow2 image"))
        try await ServerUnderTest.run(["serve", "-f", "qcow2", image] + disk.socket, in: directory) { server in
            try server.expectContents(disk.contents)
        }
    }

    @Test func `it says what it has found, and serving changes nothing in the image`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.plain()
        let bytes = try Data(contentsOf: URL(fileURLWithPath: image))
        let outcome = try await ServerUnderTest.run(["serve", "-v", image] + disk.socket, in: directory) { server in
            try server.expectContents(disk.contents)
            #expect(server.instructions.contains("(qcow2, not encrypted)"))
        }
        #expect(outcome.errors.contains("found format qcow2"))
        let after = try File.contents(image)
        #expect(after == bytes)
    }
}
