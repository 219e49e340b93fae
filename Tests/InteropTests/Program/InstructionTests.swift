// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The commands that the server prints really work.
@Suite("Printed commands", .fourAtATime)
struct InstructionTests {
    /// Options that make the commands long and strange.
    static let places: [[String]] = [
        ["--socket", "SOCKET"], ["--socket", "SOCKET with, comma & it's"], ["--port", "0"],
        ["--bind", "::1", "--port", "0"], ["--socket", "SOCKET", "--export-name", "my disk, it's $HOME/ü"],
        ["--port", "0", "--export-name=-x"], [],
    ]

    @Test("qemu-img and nbdcopy copy the disk as printed", arguments: places)
    func copies(_ place: [String]) async throws {
        try await withServer(place) { server, disk in
            for program in ["qemu-img", "nbdcopy"] {
                let command = try command(program, server)
                try await Tool.shell("cd \(disk.directory.path); \(command)")
            }
            try await Tool.succeed(
                "qemu-img",
                ["compare", disk.directory.file("copy.qcow2"), "-f", "qcow2", "-F", "raw", try disk.raw()])
            let copy = try File.contents(disk.directory.file("copy.raw"))
            #expect(copy == disk.contents)
        }
    }

    @Test("nbd-client negotiates as printed, up to the device, which is not there", arguments: places)
    func nbdClient(_ place: [String]) async throws {
        try await withServer(place) { server, disk in
            let device = try disk.directory.write("device", text: "")
            let printed = try command("nbd-client", server)
            #expect(printed.hasPrefix("sudo nbd-client ") && printed.contains(" /dev/nbd0"))
            // A file is no device, which nbd-client notices after the negotiation.
            let line = printed.dropFirst("sudo ".count).replacing("/dev/nbd0", with: device)
            let outcome = try await Tool.run("/bin/sh", ["-c", String(line)])
            #expect((outcome.output + outcome.errors).contains("size = 1MB"), "\(line): \(outcome.errors)")
        }
    }

    @Test("QEMU opens the drive as printed", arguments: places)
    func qemu(_ place: [String]) async throws {
        try await withServer(place) { server, disk in
            let line = try command("qemu-system-x86_64", server)
            let conversation = #"{"execute":"qmp_capabilities"} {"execute":"query-block"} {"execute":"quit"}"#
            let outcome = try await Tool.run(
                "/bin/sh", ["-c", "exec \(line) -S -display none -nodefaults -qmp stdio -machine pc,accel=tcg"],
                input: Array(conversation.utf8))
            #expect(outcome.code == 0, "\(outcome.errors)")
            #expect(outcome.output.contains("\"virtual-size\": \(disk.contents.count)"), "\(outcome.output)")
            #expect(outcome.output.contains("\"ro\": true"))
        }
    }

    @Test("The commands are printed once it listens, with the size and the kind of the disk")
    func heading() async throws {
        try await withServer(["--socket", "SOCKET"]) { server, disk in
            let first = try #require(server.instructions.split(separator: "\n").first)
            #expect(first.contains("(qcow2, AES-128, decrypted)") && first.contains("read-only"))
            #expect(first.contains("\(disk.contents.count) bytes"))
        }
    }

    /// The printed line with a program in it, without what stands before the command.
    private func command(_ program: String, _ server: ServerUnderTest) throws -> String {
        let line = try #require(
            server.instructions.split(separator: "\n").first { $0.contains(program) }, "no command with \(program)")
        return line.replacing(/^[A-Z][a-z ]*:\s+/, with: "").trimmingCharacters(in: .whitespaces)
    }

    private func withServer(
        _ place: [String], _ body: (ServerUnderTest, SmallDisk) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.encrypted("abc")
        let secret = ["--passphrase-file", try directory.write("p", text: "abc")]
        let options = place.map { $0.replacing("SOCKET", with: directory.file("s")) }
        try await ServerUnderTest.run(["serve", image] + secret + options, in: directory) { server in
            try await body(server, disk)
        }
    }
}
