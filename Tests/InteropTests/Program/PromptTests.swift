// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The question at the terminal.
@Suite(.fewAtATime)
struct PromptTests {
    /// What Helpers/terminal.py reports.
    private struct Screen: Decodable {
        let status: Int32
        let screen: String
        let asked: Int
        let served: Bool
        let echoWhileAsking: Bool?
        let echoAfterwards: Bool
    }

    @Test func `the passphrase is asked for with echo off, and ctrl-C stops the server afterwards`() async throws {
        try await SmallDisk.with(passphrase: "päss wörd") { disk, image in
            let screen = try await type("päss wörd\\r", ["serve", image] + disk.socket)
            #expect(screen.asked == 1 && screen.served)
            #expect(screen.screen.contains("Passphrase for \(image): "))
            #expect(!screen.screen.contains("wörd"), "the passphrase is not shown")
            #expect(screen.echoWhileAsking == false)
            #expect(screen.echoAfterwards)
            #expect(screen.status == 0)
            #expect(!File.exists(disk.directory.file("s")))
        }
    }

    @Test func `the passphrase of an overlay is asked for under its name`() async throws {
        try await SmallDisk.with(passphrase: "right") { disk, image in
            let (overlay, secret) = (disk.directory.file("overlay"), try disk.directory.write("o", text: "its own"))
            let create =
                "qemu-img create -q -f qcow2 --object secret,id=s,file=\(secret) -u -F qcow2 -b \(image) "
                + "-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \(overlay) \(disk.contents.count)"
            try await Tool.shell("for i in $(seq 50); do \(create) 2> /dev/null && exit; done; exec \(create)")
            let arguments = ["serve", image, "--overlay-file", overlay] + disk.socket
            let screen = try await type("right\\r|its own\\r", arguments)
            #expect(screen.asked == 2 && screen.served && screen.status == 0, "\(screen)")
            #expect(screen.screen.contains("Passphrase for \(overlay): ") && screen.echoAfterwards)
        }
    }

    @Test func `three wrong answers end with 77`() async throws {
        try await SmallDisk.with(passphrase: "right") { disk, image in
            let screen = try await type("wrong\\r", ["serve", image] + disk.socket)
            #expect(screen.status == 77 && screen.asked == 3)
            #expect(screen.screen.contains("the passphrase from the terminal does not fit"))
            #expect(screen.echoAfterwards && !screen.served)
            #expect(!File.exists(disk.directory.file("s")))
        }
    }

    @Test func `the third answer may be right`() async throws {
        try await SmallDisk.with(passphrase: "right") { disk, image in
            let screen = try await type("wrong\\r|Right\\r|right\\r", ["serve", image] + disk.socket)
            #expect(screen.status == 0 && screen.asked == 3 && screen.served && screen.echoAfterwards)
        }
    }

    @Test func `what opens no keyslot is asked for again, though there are keyslots that are not tried`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let maker = LUKSMaker(directory: disk.directory)
        let path = try await maker.format()
        try await maker.addKey("second", to: path)
        try await maker.cryptsetup(["config", path, "--key-slot", "1", "--priority", "ignore"])
        let right = try await type("second\\r|correct horse\\r", ["serve", path] + disk.socket)
        #expect(right.status == 0 && right.asked == 2 && right.served, "\(right)")
        let wrong = try await type("second\\r", ["serve", path] + disk.socket)
        #expect(wrong.status == 65 && wrong.asked == 3 && !wrong.served, "\(wrong)")
        #expect(wrong.screen.contains("--key-slot 1"), "\(wrong)")
    }

    @Test(arguments: ["\\x03", "\\x04", "\\r", "half\\x03"])
    func `Ctrl-C, ctrl-D and an empty line are no passphrase; the echo is on again and no socket is left`(
        _ answer: String
    ) async throws {
        try await SmallDisk.with(passphrase: "right") { disk, image in
            let screen = try await type(answer, ["serve", image] + disk.socket)
            #expect(screen.status == 77)
            #expect(screen.echoWhileAsking == false && screen.echoAfterwards && !screen.served)
            #expect(screen.screen.contains("nbdecrypt: "))
            #expect(!File.exists(disk.directory.file("s")))
        }
    }

    @Test func `SIGTERM while it waits for an answer ends it; the echo is on again and no socket is left`() async throws
    {
        try await SmallDisk.with(passphrase: "right") { disk, image in
            let screen = try await type("SIGTERM", ["serve", image] + disk.socket)
            #expect(screen.status == 143)
            #expect(screen.echoWhileAsking == false && screen.echoAfterwards)
            #expect(!File.exists(disk.directory.file("s")))
        }
    }

    @Test func `no question is asked for an image that is not encrypted, nor when a file is named`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let plain = try await type("x\\r", ["serve", try await disk.plain()] + disk.socket)
        #expect(plain.asked == 0 && plain.served && plain.status == 0)
        let file = try directory.write("p", text: "abc")
        let named = try await type(
            "x\\r", ["serve", try await disk.encrypted("abc"), "--passphrase-file", file] + disk.socket)
        #expect(named.asked == 0 && named.served && named.status == 0)
    }

    @Test func `without a terminal it ends with 77 and names the options`() async throws {
        try await SmallDisk.with(passphrase: "right") { disk, image in
            let arguments = ["--wait", try Program.path, "serve", image] + disk.socket
            // A session of its own has no terminal; standard input would be a pipe with the right passphrase.
            let outcome = try await Tool.run("setsid", arguments, input: Array("right\n".utf8))
            Program.expectRefusal(
                outcome, status: 77,
                saying: ["there is no terminal", "--passphrase-file FILE", "--passphrase-fd N"])
            #expect(!File.exists(disk.directory.file("s")))
        }
    }

    private func type(_ answer: String, _ arguments: [String]) async throws -> Screen {
        let output = try await Tool.succeed(
            "python3", [Program.helper("terminal.py"), answer, try Program.path] + arguments)
        return try JSONDecoder().decode(Screen.self, from: Data(output.utf8))
    }
}
