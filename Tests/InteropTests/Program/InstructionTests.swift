// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The commands that the server prints really work.
@Suite(.fewAtATime)
struct InstructionTests {
    /// Where to listen, and for whom no command is printed because it cannot connect there.
    struct Place: Sendable, CustomTestStringConvertible {
        /// SOCKET is a path, CERTS a directory of certificates, KEYS one of files of keys.
        let options: [String]
        var absent: Set<String> = []
        var testDescription: String { options.joined(separator: " ") }
    }

    /// Options that make the commands long and strange.
    static let places = [
        Place(options: ["--socket", "SOCKET"]), Place(options: ["--socket", "SOCKET with, comma & it's"]),
        Place(options: ["--port", "0"]), Place(options: ["--bind", "::1", "--port", "0"]),
        Place(options: ["--socket", "SOCKET", "--export-name", "my disk, it's $HOME/ü"]),
        Place(options: ["--port", "0", "--export-name=-x"]), Place(options: []),
        Place(options: ["--tls-psk", "auto"], absent: ["nbd-client"]),
        Place(options: ["--tls-psk=auto", "--port", "0", "--export-name", "a disk, it's"], absent: ["nbd-client"]),
        Place(options: ["--tls-psk=auto", "--tls=allow", "--bind", "::1", "--port", "0"], absent: ["nbd-client"]),
        Place(
            options: ["--tls-psk", "KEYS, it's/keys.psk", "--socket", "SOCKET, too", "--export-name", "a,b"],
            absent: ["nbd-client"]),
        Place(options: ["--tls-psk", "KEYS/other.psk", "--port", "0"], absent: ["nbd-client", "qemu"]),
        Place(options: ["--tls-certs", "CERTS", "--port", "0"]),
        Place(options: ["--tls-certs", "CERTS", "--bind", "localhost", "--port", "0", "--export-name", "a b"]),
        Place(options: ["--tls-certs", "CERTS", "--tls-verify-peer", "--bind", "::1", "--port", "0"]),
        Place(options: ["--tls-certs", "CERTS", "--tls-verify-peer", "--socket", "SOCKET"], absent: ["qemu"]),
        Place(options: ["--tls-certs", "CERTS", "--socket", "SOCKET", "--export-name", "a b"], absent: ["qemu"]),
    ]

    @Test(arguments: places)
    func `qemu-img and nbdcopy copy the disk as printed`(_ place: Place) async throws {
        try await withServer(place) { server, disk in
            if let command = try command("qemu-img", server, place) {
                try await Tool.shell("cd \(disk.directory.path); \(command)")
                try await Tool.succeed(
                    "qemu-img",
                    ["compare", disk.directory.file("copy.qcow2"), "-f", "qcow2", "-F", "raw", try disk.raw()])
            }
            let command = try #require(try command("nbdcopy", server, place))
            try await Tool.shell("cd \(disk.directory.path); \(command)")
            let copy = try File.contents(disk.directory.file("copy.raw"))
            #expect(copy == disk.contents)
        }
    }

    @Test(arguments: places)
    func `nbd-client negotiates as printed, up to the device, which is not there`(_ place: Place) async throws {
        try await withServer(place) { server, disk in
            let device = try disk.directory.write("device", text: "")
            guard let printed = try command("nbd-client", server, place) else { return }
            #expect(printed.hasPrefix("sudo nbd-client ") && printed.contains(" /dev/nbd0 -b 512"))
            // A file is no device, which nbd-client notices after the negotiation.
            let line = printed.dropFirst("sudo ".count).replacing("/dev/nbd0", with: device)
            let outcome = try await Tool.run("/bin/sh", ["-c", String(line)])
            #expect((outcome.output + outcome.errors).contains("size = 1MB"), "\(line): \(outcome.errors)")
        }
    }

    @Test(arguments: places)
    func `QEMU opens the drive as printed`(_ place: Place) async throws {
        try await withServer(place) { server, disk in
            guard let line = try command("qemu-system-x86_64", server, place) else { return }
            let conversation = #"{"execute":"qmp_capabilities"} {"execute":"query-block"} {"execute":"quit"}"#
            let outcome = try await Tool.run(
                "/bin/sh", ["-c", "exec \(line) -S -display none -nodefaults -qmp stdio -machine pc,accel=tcg"],
                input: Array(conversation.utf8))
            #expect(outcome.code == 0, "\(outcome.errors)")
            #expect(outcome.output.contains("\"virtual-size\": \(disk.contents.count)"))
        }
    }

    @Test func `the first line says what is served, and how large it is`() async throws {
        try await withServer(Place(options: ["--socket", "SOCKET"])) { server, disk in
            let first = try #require(server.instructions.split(separator: "\n").first)
            #expect(first.contains("(qcow2, AES-128, decrypted)") && first.contains("read-only"))
            #expect(first.contains("\(disk.contents.count) bytes"))
        }
    }

    @Test(arguments: [0, 1, 511])
    func `what nbd-client cannot attach of a disk is told`(_ count: Int) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("disk.raw", Data(count: 4096 + count))
        try await ServerUnderTest.run(["serve", image, "--format", "raw"], in: directory) { server in
            let note = "Attached by nbd-client, the disk lacks its last \(count) bytes"
            #expect(server.instructions.contains(note) == (count > 0), "\(server.instructions)")
        }
    }

    @Test(arguments: [[], ["--tls-psk=auto"]])
    func `a disk that clients can change is attached and booted as one`(_ options: [String]) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try SmallDisk(directory).raw()
        try await ServerUnderTest.run(
            ["serve", image, "--format", "raw", "--writable"] + options, in: directory
        ) { server in
            #expect(server.instructions.prefix { $0 != "\n" }.contains("writable"))
            #expect(!server.instructions.contains("readonly"))
            let place = Place(options: options, absent: options.isEmpty ? [] : ["nbd-client"])
            _ = try command("nbd-client", server, place)
            let line = try #require(try command("qemu-system-x86_64", server, place))
            let conversation = #"{"execute":"qmp_capabilities"} {"execute":"query-block"} {"execute":"quit"}"#
            let outcome = try await Tool.run(
                "/bin/sh", ["-c", "exec \(line) -S -display none -nodefaults -qmp stdio -machine pc,accel=tcg"],
                input: Array(conversation.utf8))
            #expect(outcome.code == 0 && outcome.output.contains("\"ro\": false"), "\(outcome.errors)")
        }
    }

    @Test func `what clients need for TLS is said where a command cannot know it`() async throws {
        let exposed = ["--bind", "0.0.0.0", "--port", "0"]
        for (options, expected) in [
            (["--tls-psk=auto"], nil), (["--tls-certs", "CERTS"], nil),
            (exposed + ["--tls-psk", "KEYS/keys.psk"], "KEYS/keys.psk, with the key of alice"),
            (["--tls-psk", "KEYS/other.psk"], "QEMU reads keys only from a file with the name keys.psk."),
            (
                exposed + ["--tls-certs", "CERTS"],
                "Clients on other machines name their own directory with ca-cert.pem,"
            ),
            (["--tls-certs", "CERTS", "--tls-verify-peer"], "Each client needs a certificate of its own: DIR stands"),
        ] as [([String], String?)] {
            try await withServer(Place(options: options), withPeer: false) { server, disk in
                let notes = server.instructions.split(separator: "\n").filter {
                    $0.hasPrefix("Each") || $0.hasPrefix("Clients") || $0.hasPrefix("QEMU")
                }
                let expected = expected.map { $0.replacing("KEYS", with: disk.directory.file("keys")) }
                #expect(notes.count == (expected == nil ? 0 : 1), "\(server.instructions)")
                #expect(notes.allSatisfy { $0.contains(expected ?? "") }, "\(server.instructions)")
            }
        }
    }

    /// The printed line with a program in it, without what stands before the command; nil when there must be none.
    private func command(_ program: String, _ server: ServerUnderTest, _ place: Place) throws -> String? {
        let line = server.instructions.split(separator: "\n").first { $0.contains("\(program) ") }
        if place.absent.contains(where: program.hasPrefix) {
            #expect(line == nil, "\(program) cannot connect there")
            return nil
        }
        return try #require(line, "no command with \(program)")
            .replacing(/^[A-Z][a-z ]*:\s+/, with: "").trimmingCharacters(in: .whitespaces)
    }

    private func withServer(
        _ place: Place, withPeer: Bool = true, _ body: (ServerUnderTest, SmallDisk) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.encrypted("abc")
        let secret = ["--passphrase-file", try directory.write("p", text: "abc")]
        if place.options.contains(where: { $0.hasPrefix("KEYS") }) {
            for name in ["keys", "keys, it's"] {
                try FileManager.default.createDirectory(
                    atPath: directory.file(name), withIntermediateDirectories: false)
                for file in ["keys.psk", "other.psk"] {
                    try directory.write(
                        "\(name)/\(file)", text: "# Keys\nalice:\(String(repeating: "5a", count: 32))\n")
                }
            }
        }
        if place.options.contains("CERTS") {
            // What a client needs is in the directory of the server, or not.
            let credentials = directory.file("tls")
            try await Tool.succeed("\(Program.root)/Tests/Fixtures/make-tls-credentials", [credentials])
            if withPeer { try await Tool.shell("cp \(credentials)/laptop/client-*.pem \(credentials)/server") }
        }
        let options = place.options.map {
            $0.replacing("SOCKET", with: directory.file("s")).replacing("KEYS", with: directory.file("keys"))
                .replacing("CERTS", with: directory.file("tls/server"))
        }
        try await ServerUnderTest.run(["serve", image] + secret + options, in: directory) { server in
            try await body(server, disk)
        }
    }
}
