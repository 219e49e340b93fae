// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Testing

/// `serve --overlay-file`: the changes of clients stay in a qcow2 image with LUKS inside, and no byte of the image changes.
@Suite(.fewAtATime)
struct OverlayFileTests {
    private static let secret = "overlay's own passphrase"

    /// An image, and an overlay for it that is made by the command that the program prints.
    private struct Overlay {
        let image: OverlayImage
        let directory: TemporaryDirectory
        let path: String
        let secretFile: String

        var secretArguments: [String] { ["--secret", "overlay=key-file:\(secretFile)"] }
        /// What follows `nbdecrypt`.
        var serve: [String] {
            ["serve", "--overlay-file", path, "--socket", directory.file("s")] + image.arguments + secretArguments
        }

        init(_ image: OverlayImage, in directory: TemporaryDirectory) throws {
            (self.image, self.directory) = (image, directory)
            path = directory.file("over lay, 1.qcow2")
            secretFile = try directory.write("overlay-secret", text: OverlayFileTests.secret)
        }

        /// A printed command with the files of the secrets.
        func completed(_ command: String) throws -> String {
            let option = image.arguments.firstIndex(of: "--passphrase-file")
            let secret = option.map { image.arguments[$0 + 1] }
            let program = try Program.path
            return command.replacing("OVERLAY-SECRET", with: secretFile)
                .replacing("IMAGE-SECRET", with: secret ?? "")
                .replacing(
                    "nbdecrypt serve", with: "\(program) serve" + (secret.map { " --passphrase-file \($0)" } ?? ""))
        }

        /// Runs the command that the refusal prints, with a cheap key.
        func make() async throws {
            let refused = try await Program.run(serve)
            Program.expectRefusal(
                refused.withoutNotices, status: 64,
                saying: ["\(path): there is no such file", "qemu-img create -f qcow2"])
            let line = try #require(refused.errors.split(separator: "\n").last)
            let words = try #require(line.components(separatedBy: "qemu-img create").last)
            let command = try completed("qemu-img create\(words)")
                .replacing("encrypt.format=luks", with: "encrypt.format=luks,encrypt.iter-time=10")
            // It measures the processor, and fails on a busy machine.
            try await Tool.shell("for i in $(seq 50); do \(command) > /dev/null 2>&1 && exit; done; exec \(command)")
        }

        /// Gives it the name of the image, where the command has left that out.
        func name() async throws {
            let file = path.replacing(",", with: ",,")
            try await Tool.succeed(
                "qemu-img",
                [
                    "rebase", "-u", "-F", "luks", "-b", image.files[0], "--object", "secret,id=s,file=\(secretFile)",
                    "--image-opts", "driver=qcow2,encrypt.key-secret=s,file.filename=\(file)",
                ])
        }

        /// The command that is printed for later.
        func commit(_ instructions: String) throws -> String {
            let lines = instructions.split(separator: "\n").map(String.init)
            let title = try #require(lines.firstIndex { $0.hasPrefix("Bring the changes into the image") })
            return try completed(lines[title + 1])
        }

        /// The options with which QEMU's tools open it over the image, by a command that commits it.
        func options(_ command: String) -> String { command.replacing(/^ *qemu-img commit/, with: "") }
    }

    private func with(
        _ kind: OverlayImage.Kind, _ body: (Overlay) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await body(Overlay(try await OverlayImage.make(kind, in: directory), in: directory))
    }

    /// How many of `needles`, each of 24 bytes, are in a file.
    private func count(_ needles: Data, in path: String, _ directory: TemporaryDirectory) async throws -> String {
        let list = try directory.write("needles", needles)
        return try await Tool.succeed(
            "python3",
            [
                "-c",
                """
                import sys
                stored, needles = (open(path, 'rb').read() for path in sys.argv[1:3])
                print(sum(needles[i:i + 24] in stored for i in range(0, len(needles), 24)))
                """, path, list,
            ])
    }

    @Test(arguments: OverlayImage.Kind.allCases.filter { $0 != .compressed && $0 != .partition })
    func `an overlay is made, filled, gone on with, and committed by the commands that are printed`(
        _ kind: OverlayImage.Kind
    ) async throws {
        try await with(kind) { overlay in
            let (image, directory) = (overlay.image, overlay.directory)
            let before = try image.contents()
            try await overlay.make()
            if kind == .luks2 { try await overlay.name() }
            var expected = image.disk
            func put(_ byte: UInt8, _ offset: Int, _ count: Int) -> String {
                expected.replaceSubrange(offset..<(offset + count), with: Data(repeating: byte, count: count))
                return byte == 0 ? "write -z \(offset) \(count)" : "write -P \(byte) \(offset) \(count)"
            }
            let end = expected.count
            let rounds = [
                [
                    put(7, 1 << 20, 1 << 20), put(9, 100 << 10 + 512, 512), put(0x5A, 3 << 20 - 1536, 66_048),
                    put(3, end - 1024, 1024), "flush",
                ],
                [
                    put(0, 5 << 20 + 512, 200_192), put(8, 1 << 20 + 4096, 512), put(0x5B, 6_000_001, 300_001),
                    "read -P 7 1536k 4k",
                ],
            ]
            var instructions = ""
            for (number, commands) in rounds.enumerated() {
                try await ServerUnderTest.run(overlay.serve, in: directory) { server in
                    instructions = server.instructions
                    if number == 0 { try server.expectContents(image.disk) }
                    let output = try await Tool.succeed(
                        "qemu-io", ["-f", "raw", server.uri] + commands.flatMap { ["-c", $0] })
                    #expect(!output.contains("failed"), "\(output)")
                    if number == 1 { try server.expectContents(expected) }
                }
            }
            let after = try image.contents()
            #expect(after == before, "the image is as it was")
            // Without what it stands on, which may want another secret.
            let alone =
                "json:{\"driver\":\"qcow2\",\"encrypt.key-secret\":\"s\",\"backing\":null,"
                + "\"file\":{\"driver\":\"file\",\"filename\":\"\(overlay.path)\"}}"
            let object = "secret,id=s,file=\(overlay.secretFile)"
            try await Tool.succeed("qemu-img", ["check", "--object", object, alone])
            var needles = Data()
            for byte in [7, 8, 9, 0x5A, 0x5B, 3] as [UInt8] { needles += Data(repeating: byte, count: 24) }
            let copied = image.disk[(3 << 20 - 4096 + 16)...].prefix(24)
            if Set(copied).count > 1 { needles += copied }
            let found = try await count(needles, in: overlay.path, directory)
            #expect(found == "0\n", "nothing of it is in the overlay in the clear")

            let commit = try overlay.commit(instructions)
            let isThroughServer = kind == .luks2 || kind == .detached
            #expect(commit.contains("--run") == isThroughServer, "\(commit)")
            if !isThroughServer, kind != .partitionLUKS, kind != .guestLUKS {
                try await Tool.shell("qemu-img convert -O raw \(overlay.options(commit)) \(directory.file("read"))")
                let read = try File.contents(directory.file("read"))
                #expect(Difference.describe(read, expected) == nil, "by QEMU's reading")
            }
            try await Tool.shell(commit)
            let plain = ["serve", "--socket", directory.file("s")] + image.arguments
            try await ServerUnderTest.run(plain, in: directory) { try $0.expectContents(expected) }
            try await ServerUnderTest.run(overlay.serve, in: directory) { try $0.expectContents(expected) }
        }
    }

    @Test func `what is no overlay of the image is refused by name, and the name is changed by the printed command`()
        async throws
    {
        try await with(.raw) { overlay in
            let (directory, image) = (overlay.directory, overlay.image)
            func refuse(
                _ path: String, _ status: Int32, _ parts: String..., options: [String] = overlay.secretArguments
            ) async throws {
                let outcome = try await Program.run(
                    ["serve", "--overlay-file", path, "--run", "true"] + image.arguments + options)
                Program.expectRefusal(outcome.withoutNotices, status: status, saying: ["\(path): "] + parts)
            }
            let way = "give --overlay-file the name of a file that is not there, and it says how to make one"
            try await refuse(try directory.write("text", text: "text"), 65, "this is none", way)
            try await refuse(image.files[0], 65, "the overlay is a file of the image itself", way)
            try await refuse(directory.file("no/overlay"), 66, "the directory of the image cannot be opened")
            try await overlay.make()
            let secret = "--object secret,id=s,file=\(overlay.secretFile)"
            let luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
            let size = image.disk.count
            try await Tool.shell(
                """
                cd \(directory.path)
                create() {
                    for i in $(seq 50); do qemu-img create -q -f qcow2 \(secret) "$@" && return; done 2> /dev/null
                    qemu-img create -q -f qcow2 \(secret) "$@"
                }
                create plain.qcow2 \(size)
                create -o encrypt.format=aes,encrypt.key-secret=s aes.qcow2 \(size)
                create -o data_file=data,\(luks) apart.qcow2 \(size)
                create -o \(luks) longer.qcow2 \(size + 512)
                create -o \(luks) -u -b ./other.raw -F raw other.qcow2 \(size)
                create -o \(luks) nameless.qcow2 \(size)
                cp disk.raw other.raw; truncate -s +1 other.raw
                """)
            try await refuse(directory.file("plain.qcow2"), 65, "this image is not encrypted", way)
            try await refuse(directory.file("aes.qcow2"), 65, "encrypted with AES", way)
            try await refuse(directory.file("apart.qcow2"), 65, "has a data file", way)
            try await refuse(
                directory.file("longer.qcow2"), 64, "a disk of \(size + 512) bytes", "has \(size)",
                "--overlay-file says how to make one")
            let wrong = try directory.write("wrong", text: "wrong")
            try await refuse(
                overlay.path, 77, "the passphrase file \(wrong)",
                options: ["--secret", "overlay=passphrase-file:\(wrong)"])
            try await refuse(
                overlay.path, 77, "--secret overlay=passphrase-file:FILE", options: ["--passphrase-file", wrong])
            // A disk that ends within a sector.
            try await Program.expectRefusal(
                ["serve", "-f", "raw", directory.file("other.raw"), "--overlay-file", overlay.path + "2"], status: 64,
                saying: "has \(size + 1) bytes", "--overlay")
            // Of a server that writes to it, nobody else can; another overlay of the same image is free.
            try await ServerUnderTest.run(overlay.serve, in: directory) { server in
                try await refuse(
                    overlay.path, 66, "another program uses the image (nbdecrypt, process \(server.processIdentifier))")
                let nameless = try await Program.run(
                    ["serve", "--overlay-file", directory.file("nameless.qcow2"), "--run", "true"] + image.arguments
                        + overlay.secretArguments)
                #expect(
                    nameless.code == 0 && nameless.errors.contains("does not say whose changes it holds"),
                    "\(nameless.errors)")
            }

            let other = directory.file("other.qcow2")
            try await refuse(other, 65, "the changes of another image, ./other.raw", "qemu-img rebase -u")
            let refused = try await Program.run(
                ["serve", "--overlay-file", other] + image.arguments + overlay.secretArguments)
            let command = try #require(refused.errors.components(separatedBy: "qemu-img rebase").last)
            try await Tool.shell(
                "qemu-img rebase\(command)"
                    .replacing("PASSPHRASE-FILE", with: overlay.secretFile))
            let opened = try await Program.run(
                ["serve", "--overlay-file", other, "--run", "true"] + image.arguments + overlay.secretArguments)
            #expect(opened.code == 0, "\(opened.errors)")
        }
    }

    @Test(arguments: [
        (["--overlay"], "exclude each other"), (["--writable"], "--writable and --overlay-file exclude each other"),
        (["--overlay-dir", "/var/tmp"], "--overlay-dir says where the scratch file of --overlay is"),
        (["--snapshot", "1"], "An overlay is for the disk as it is now"),
        (["--bitmap", "b"], "An overlay is for the disk as it is now"),
        (["--force-share"], "exclude each other"), (["--allow-discards"], "--allow-discards is for --writable"),
        (["second.raw"], "--overlay-file are for one image"),
    ])
    func `options that make no sense beside it are refused by name`(options: [String], reason: String) async throws {
        let outcome = try await Program.run(["serve", "-f", "raw", "disk.raw", "--overlay-file", "o.qcow2"] + options)
        #expect(outcome.code == 64 && outcome.errors.contains(reason), "\(outcome.errors)")
    }

    @Test func `a secret for an overlay needs one, and a URL is none`() async throws {
        for (options, reason) in [
            (["--secret", "overlay=key-file:/dev/null"], "--secret overlay= is for --overlay-file"),
            (["--overlay-file", "https://localhost/o"], "takes the path of a file"),
            (["--overlay-file", ""], "The name of --overlay-file is empty"),
        ] {
            let outcome = try await Program.run(["serve", "-f", "raw", "disk.raw"] + options)
            #expect(outcome.code == 64 && outcome.errors.contains(reason), "\(outcome.errors)")
        }
    }
}

extension Tool.Outcome {
    /// Without what is told while an image is opened.
    fileprivate var withoutNotices: Tool.Outcome {
        let kept = errors.split(separator: "\n").filter { line in
            !line.contains(": keyslot ") && !line.contains(": the passphrase fits")
        }
        return Tool.Outcome(command: command, status: status, output: output, errors: kept.joined(separator: "\n"))
    }
}
