// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Where the passphrase comes from, and which bytes of it count.
@Suite(.fewAtATime)
struct PassphraseTests {
    private static let passphrase = "tr0ub4dor&3"

    @Test(arguments: ["", "\n", "\r\n"])
    func `one newline at the end of a passphrase file is not part of it`(_ end: String) async throws {
        try await SmallDisk.with(passphrase: Self.passphrase) { disk, image in
            let file = try disk.directory.write("p", text: Self.passphrase + end)
            try await serve(disk, image, ["--passphrase-file", file])
            try await serve(disk, image, ["--passphrase-file", "-"], input: file)
        }
    }

    @Test(arguments: ["\n\n", "\r\n\n", "\n\r\n"])
    func `a second newline is part of it`(_ end: String) async throws {
        try await SmallDisk.with(passphrase: Self.passphrase) { disk, image in
            let file = try disk.directory.write("p", text: Self.passphrase + end)
            try await Program.expectRefusal(
                ["serve", image, "--passphrase-file", file] + disk.socket, status: 77, saying: "does not fit",
                "without the newline at its end")
        }
    }

    @Test func `a carriage return alone is part of it`() async throws {
        try await SmallDisk.with(passphrase: Self.passphrase + "\r") { disk, image in
            let file = try disk.directory.write("p", text: Self.passphrase + "\r")
            try await serve(disk, image, ["--passphrase-file", file])
        }
    }

    @Test func `the passphrase can come from a pipe at any descriptor`() async throws {
        try await SmallDisk.with(passphrase: Self.passphrase) { disk, image in
            let line = """
                exec \(try Program.path) serve \(image) --passphrase-fd 7 --socket \(disk.directory.file("s")) \
                7< <(echo '\(Self.passphrase)')
                """
            try await ServerUnderTest.run(["-c", line], program: "/bin/bash", in: disk.directory) { server in
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `a key file is taken with all its bytes, newlines too`() async throws {
        try await SmallDisk.with(passphrase: "secret\n") { disk, image in
            let file = try disk.directory.write("k", text: "secret\n")
            try await serve(disk, image, ["--key-file", file])
            try await Program.expectRefusal(
                ["serve", image, "--key-file", try disk.directory.write("k2", text: "secret")] + disk.socket,
                status: 77, saying: "does not fit", "with a line feed at its end")
        }
    }

    @Test func `only the first 16 bytes count`() async throws {
        try await SmallDisk.with(passphrase: "0123456789abcdef and more") { disk, image in
            for text in ["0123456789abcdef", "0123456789abcdefXYZ\n", "0123456789abcdef\n"] {
                try await serve(disk, image, ["--passphrase-file", try disk.directory.write("p", text: text)])
            }
            try await serve(disk, image, ["--raw-key-file", try disk.directory.write("k", text: "0123456789abcdef")])
            try await Program.expectRefusal(
                ["serve", image, "--passphrase-file", try disk.directory.write("p", text: "0123456789abcde")]
                    + disk.socket,
                status: 77, saying: "does not fit")
        }
    }

    @Test func `a NUL byte ends the passphrase, with a warning`() async throws {
        try await SmallDisk.with(passphrase: "abc") { disk, image in
            let file = try disk.directory.write("k", text: "abc\0def")
            for option in ["--key-file", "--passphrase-file"] {
                let outcome = try await serve(disk, image, [option, file])
                #expect(outcome.errors.contains("nbdecrypt: warning: the passphrase has a NUL byte"))
            }
        }
    }

    @Test func `a raw key of 16 bytes is the key; any other length is refused`() async throws {
        try await SmallDisk.with(passphrase: "abc") { disk, image in
            let padded = try disk.directory.write("k", text: "abc" + String(repeating: "\0", count: 13))
            try await serve(disk, image, ["--raw-key-file", padded])
            for length in [1, 15, 17, 32] {
                let file = try disk.directory.write("k\(length)", Data(repeating: 7, count: length))
                try await Program.expectRefusal(
                    ["serve", image, "--raw-key-file", file] + disk.socket, status: 77,
                    saying: "holds \(length) bytes", "16")
            }
        }
    }

    @Test func `a missing, empty or giant passphrase file, or a descriptor that is not open, is told apart`()
        async throws
    {
        try await SmallDisk.with(passphrase: "abc") { disk, image in
            let serve = ["serve", image] + disk.socket
            let empty = try disk.directory.write("empty", text: "")
            let giant = try disk.directory.write("giant", Data(count: 9 << 20))
            try await Program.expectRefusal(serve + ["--passphrase-file", empty], status: 77, saying: "is empty")
            try await Program.expectRefusal(
                serve + ["--passphrase-file", giant], status: 77, saying: "holds more than 8388608 bytes")
            try await Program.expectRefusal(
                serve + ["--passphrase-file", "-"], status: 77, saying: "standard input is empty")
            for option in ["--passphrase-file", "--key-file", "--raw-key-file"] {
                try await Program.expectRefusal(
                    serve + [option, disk.directory.file("none")], status: 66, saying: "none", "No such file")
            }
            try await Program.expectRefusal(serve + ["--passphrase-fd", "99"], status: 66, saying: "descriptor 99")
            #expect(!File.exists(disk.directory.file("s")), "no socket is left behind")
        }
    }

    @Test func `a file with nothing but a newline holds the empty passphrase`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let file = try directory.write("p", text: "\n")
        let image = try await disk.encrypted(key: [UInt8](repeating: 0, count: 16))
        try await serve(disk, image, ["--passphrase-file", file])
        try await Program.expectRefusal(
            ["serve", try await disk.encrypted("abc"), "--passphrase-file", file] + disk.socket, status: 77,
            saying: "does not fit")
    }

    @Test func `a passphrase for an image that is not encrypted is not used, with a warning`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.plain()
        let outcome = try await serve(disk, image, ["--passphrase-file", try directory.write("p", text: "x")])
        #expect(outcome.errors.contains("could open was found in the image, or in the part of it that is opened"))
        // Without one, nothing is asked for and nothing said.
        #expect(!(try await serve(disk, image, [])).errors.contains("warning"))
    }

    /// Serves the image and reads all of it.
    @discardableResult
    private func serve(
        _ disk: SmallDisk, _ image: String, _ arguments: [String], input: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> Tool.Outcome {
        try await ServerUnderTest.run(
            ["serve", image] + arguments + disk.socket, input: input, in: disk.directory, sourceLocation: sourceLocation
        ) { server in try server.expectContents(disk.contents, sourceLocation: sourceLocation) }
    }
}
