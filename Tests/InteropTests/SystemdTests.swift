// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The units in systemd/, and sockets that a service manager opens.
@Suite(.fewAtATime)
struct SystemdTests {
    @Test func `systemd finds no fault with the units`() async throws {
        try await withUnits { socket, service in
            let outcome = try await Tool.run("systemd-analyze", ["verify", "--man=no", socket, service])
            #expect(outcome.code == 0)
            #expect(outcome.output.isEmpty && outcome.errors.isEmpty, "\(outcome.errors)\(outcome.output)")
        }
    }

    @Test func `systemd rates the service's confinement as safe`() async throws {
        try await withUnits { _, service in
            // Tenths of its scale, on which 10 is no confinement at all.
            let outcome = try await Tool.run(
                "systemd-analyze", ["security", "--offline=true", "--no-pager", "--threshold=20", service])
            #expect(outcome.code == 0, "\(outcome.output)")
        }
    }

    @Test func `a server that a socket starts reads from the socket, once, and leaves it to its owner`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ExamplesImage(directory)
        let socket = directory.file("activated.sock")
        let uri = "nbd+unix:///?socket=\(socket)"
        let output = try await Tool.shell(
            """
            systemd-socket-activate --listen=\(socket) \(try Program.path) serve \(image.image.path) \
                --passphrase-file \(image.passphrasePath) --once -v \
                > \(directory.file("output")) 2> \(directory.file("instructions")) &
            until [ -S \(socket) ]; do sleep 0.05; done
            nbdinfo --size '\(uri)'
            nbdcopy '\(uri)' \(directory.file("copy.raw"))
            wait $!
            """)
        #expect(output == "\(64 << 20)\n")
        try await Tool.succeed("cmp", [image.rawPath, directory.file("copy.raw")])
        let instructions = try File.text(directory.file("instructions"))
        #expect(instructions.contains("  \(uri)\n"))
        #expect(try File.size(directory.file("output")) == 0)
        #expect(File.exists(socket))
    }

    @Test func `all sockets of a service manager are served`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ExamplesImage(directory)
        let sockets = ["first.sock", "second.sock"].map { directory.file($0) }
        try await Tool.shell(
            """
            systemd-socket-activate --listen=\(sockets[0]) --listen=\(sockets[1]) \
                \(try Program.path) serve \(image.image.path) --passphrase-file \(image.passphrasePath) > /dev/null &
            server=$!
            until [ -S \(sockets[0]) ] && [ -S \(sockets[1]) ]; do sleep 0.05; done
            nbdcopy 'nbd+unix:///?socket=\(sockets[1])' \(directory.file("second.raw"))
            nbdcopy 'nbd+unix:///?socket=\(sockets[0])' \(directory.file("first.raw"))
            kill -TERM $server
            wait $server
            """)
        try await Tool.succeed("cmp", [image.rawPath, directory.file("first.raw")])
        try await Tool.succeed("cmp", [image.rawPath, directory.file("second.raw")])
    }

    @Test(arguments: [true, false])
    func `the service opens what a key file opens that ends in a newline, and what a passphrase opens`(
        isPassphrase: Bool
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let key: [UInt8] = [1, 0xFF, 0x61, 0x0A, 0x64, 0x65, 0x66, 0, 0x67, 0x68, 0x0A]
        let bytes = isPassphrase ? Array("a passphrase\n".utf8) : key
        let file = try directory.write("passphrase", bytes)
        let image = try directory.write("disk.luks", Data(count: 6 << 20))
        try await Tool.shell(
            """
            head -c \(bytes.count - (isPassphrase ? 1 : 0)) \(file) > \(directory.file("key"))
            cryptsetup --batch-mode luksFormat --type luks1 --pbkdf-force-iterations 1000 \(image) \(directory.file("key"))
            """)
        let service = try File.text("\(Program.root)/systemd/nbdecrypt@.service")
        let line = try #require(service.split(separator: "\n").first { $0.hasPrefix("ExecStart=") })
        let arguments = try #require(line.range(of: " serve ")).upperBound
        // systemd expands variables as a shell does, as far as they are used here.
        let opened = try await Tool.run(
            "/bin/bash", ["-c", "\(try Program.path) serve --run true \(line[arguments...])"],
            environment: ["CREDENTIALS_DIRECTORY": directory.path, "OPTIONS": "", "IMAGE": image])
        #expect(opened.code == 0, "\(opened.errors)")
    }

    @Test func `the service opens no file that an image names, unless its options say so`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try directory.write("passphrase", text: "not used")
        try directory.write("base", Data(count: 1 << 20))
        let image = try HostileImage(backing: "base").write(to: directory.file("image"))
        let service = try File.text("\(Program.root)/systemd/nbdecrypt@.service")
        let line = try #require(service.split(separator: "\n").first { $0.hasPrefix("ExecStart=") })
        let arguments = try #require(line.range(of: " serve ")).upperBound
        for (options, status) in [
            ("", 65), ("--references same-directory", 0), ("--allow-reference \(directory.file("base"))", 0),
        ] as [(String, Int32)] {
            let outcome = try await Tool.run(
                "/bin/bash", ["-c", "\(try Program.path) serve --run true \(line[arguments...])"],
                environment: ["CREDENTIALS_DIRECTORY": directory.path, "OPTIONS": options, "IMAGE": image])
            #expect(outcome.code == status, "\(options): \(outcome.errors)")
            #expect(outcome.errors.contains("--references deny") == (status == 65), "\(outcome.errors)")
        }
    }

    @Test func `a place to listen and a service manager's socket contradict each other`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ExamplesImage(directory)
        let socket = directory.file("activated.sock")
        let outcome = try await Tool.run(
            "/bin/bash",
            [
                "-c",
                """
                systemd-socket-activate --listen=\(socket) \(try Program.path) serve \(image.image.path) --port 0 &
                # The socket is there before it takes connections.
                while kill -0 $! 2>/dev/null; do
                    nbdinfo 'nbd+unix:///?socket=\(socket)' > /dev/null 2>&1; sleep 0.05
                done
                wait $!
                """,
            ])
        #expect(outcome.code == 64)
        #expect(outcome.errors.contains("LISTEN_FDS"))
    }

    /// Gives `body` copies of the units that name the program under test: systemd looks whether it is there.
    private func withUnits(_ body: (_ socket: String, _ service: String) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let source = "\(Program.root)/systemd"
        let socket = try directory.write(
            "nbdecrypt@.socket", text: try File.text("\(source)/nbdecrypt@.socket"))
        let service = try File.text("\(source)/nbdecrypt@.service")
        try #require(service.contains("ExecStart=/usr/bin/nbdecrypt "))
        let changed = service.replacing("ExecStart=/usr/bin/nbdecrypt ", with: "ExecStart=\(try Program.path) ")
        try await body(socket, try directory.write("nbdecrypt@.service", text: changed))
    }
}
