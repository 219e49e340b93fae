// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@testable import nbdecrypt

/// Secrets that are not in a file: what a command prints, credentials, keys of the kernel, and text that stands for bytes.
@Suite(.fewAtATime)
struct SecretSourceTests {
    private static let passphrase = "tr0ub4dor&3"

    @Test func `what a command prints is the passphrase, but for one newline, and what it says is shown`() async throws
    {
        try await withContainer { image, directory in
            let file = try directory.write("p", text: "\(Self.passphrase)\r\n")
            for source in [["--passphrase-command"], ["--secret", "command:"], ["--secret", "0=command:"]] {
                let line = "\(source.last ?? "")cat \(file); echo a=b: said >&2".replacing(
                    "--passphrase-command", with: "")
                let opened = try await serve(image, [source[0], line])
                #expect(opened.code == 0 && opened.errors.contains("opens with the passphrase command\n"))
                #expect(opened.errors.contains("a=b: said\n"), "\(opened.errors)")
            }
            // Of several, each is tried; with all bytes, the newline counts.
            let several = try await serve(
                image, ["--passphrase-command", "echo wrong", "--passphrase-command", "echo '\(Self.passphrase)'"])
            #expect(several.code == 0 && several.errors.contains("the passphrase command number 2"))
            let bytes = try await serve(image, ["--secret", "bytes:command:cat \(file)"])
            #expect(bytes.code == 77 && bytes.errors.contains("give --secret text:command:COMMAND"), "\(bytes.errors)")
        }
    }

    @Test func `a command has no input, no descriptor of ours, and signals as usual`() async throws {
        try await withContainer { image, directory in
            let line = """
                cat; ls /proc/self/fd | xargs echo descriptors; grep -E 'SigBlk|SigIgn' /proc/self/status; \
                echo '\(Self.passphrase)'
                """
            let command = "exec \(try Program.path) serve \(image) --passphrase-command \"$1\" --run true 7< \(image)"
            let outcome = try await Tool.run(
                "/bin/bash", ["-c", command, "bash", "{ \(line); } 2>&1 | tee -a /dev/stderr | tail -1"],
                input: Array("not for the command".utf8))
            #expect(outcome.code == 0, "\(outcome.errors)")
            #expect(outcome.errors.hasPrefix("descriptors 0 1 2 3\n"), "\(outcome.errors)")
            // Two signals belong to the C library.
            #expect(outcome.errors.contains(/SigBlk:\t0{16}\nSigIgn:\t.{8}[08]0{7}\n/), "\(outcome.errors)")
        }
    }

    @Test(
        arguments: [
            ("echo hunter2; exit 3", 66, "ended with status 3"),
            ("echo hunter2; kill -9 $$", 66, "was ended by signal 9"),
            ("true", 77, "has printed nothing"), ("cat /dev/zero", 77, "has printed more than 8388608 bytes"),
        ] as [(String, Int32, String)])
    func `a command that fails, or prints nothing or too much, is refused without what it has printed`(
        _ line: String, _ status: Int32, _ reason: String
    ) async throws {
        try await withContainer { image, directory in
            let outcome = try await serve(image, ["--passphrase-command", line])
            Program.expectRefusal(outcome, status: status, saying: ["the passphrase command", reason])
            #expect(!outcome.errors.contains("hunter2"))
        }
    }

    @Test func `a command ends with the program`() async throws {
        try await withContainer { image, directory in
            let mark = directory.file("mark")
            let outcome = try await Tool.shell(
                """
                \(try Program.path) serve \(image) --run true --passphrase-command \
                    'trap "echo ended > \(mark); exit 1" TERM; echo $$ > \(mark); while :; do sleep 0.05; done' &
                until [ -s \(mark) ]; do sleep 0.05; done
                kill -TERM $!
                wait $! || echo status $?
                until grep -q ended \(mark); do sleep 0.05; done
                """)
            #expect(outcome == "status 143\n")
        }
    }

    @Test func `a credential is read by its name, and outside of a service by the command that is printed`()
        async throws
    {
        try await withContainer { image, directory in
            try directory.write("disk", text: "\(Self.passphrase)\n")
            let arguments = ["serve", image, "--run", "true", "--credential", "disk"]
            let opened = try await Program.run(arguments, environment: ["CREDENTIALS_DIRECTORY": directory.path])
            #expect(opened.code == 0 && opened.errors.contains("opens with the credential disk\n"), "\(opened.errors)")
            let outside = try await Program.run(arguments, environment: ["CREDENTIALS_DIRECTORY": nil])
            Program.expectRefusal(
                outside, status: 66,
                saying: ["the credential disk is not there", "LoadCredential=disk:FILE", "LoadCredentialEncrypted="])
            // In a directory of its own, since the name of the file is the name that the credential is for.
            let printed = outside.errors.firstMatch(of: /give (--passphrase-command '.*')/).map { String($0.1) }
            let option = try #require(printed).replacing("FILE", with: "\(directory.path)/disk.encrypted")
            try await Tool.shell(
                """
                systemd-creds encrypt --with-key=tpm2-absent --name=disk.encrypted \(directory.file("disk")) \
                    \(directory.file("disk.encrypted"))
                \(try Program.path) serve \(image) --run true \(option)
                """)
            for name in ["../disk", "a/b", ".."] {
                let refused = try await serve(image, ["--credential", name])
                #expect(refused.code == 64 && refused.errors.contains("without slashes"), "\(refused.errors)")
            }
            let none = try await Program.run(
                ["serve", image, "--run", "true", "--credential", "none"],
                environment: ["CREDENTIALS_DIRECTORY": directory.path])
            Program.expectRefusal(none, status: 66, saying: ["the credential none", "No such file"])
        }
    }

    @Test func `a key of the kernel opens a container, and one that cannot be read is refused by its type`()
        async throws
    {
        try await withContainer { image, directory in
            let file = try directory.write("p", text: Self.passphrase)
            func run(_ type: String, _ description: String, _ argument: String) async throws -> Tool.Outcome {
                let serve = [try Program.path, "serve", image, "--run", "true", "--keyring", argument]
                return try await Tool.run(
                    "python3", [Program.helper("add_key.py"), type, description, file] + serve)
            }
            for argument in ["nbdecrypt:test", "%user:nbdecrypt:test"] {
                let opened = try await run("user", "nbdecrypt:test", argument)
                #expect(opened.code == 0, "\(opened.errors)")
                #expect(opened.errors.contains("opens with the key nbdecrypt:test of the kernel"), "\(opened.errors)")
            }
            for argument in ["nbdecrypt:test", "%logon:nbdecrypt:test"] {
                let outcome = try await run("logon", "nbdecrypt:test", argument)
                Program.expectRefusal(outcome, status: 66, saying: ["of type logon", "`keyctl padd user NAME @s`"])
            }
            for (argument, reason) in [("other", "no such key"), ("%encrypted:other", "the type is \"encrypted\"")] {
                let outcome = try await run("user", "nbdecrypt:test", argument)
                Program.expectRefusal(outcome, status: 66, saying: [reason])
            }
            let source = try await Tool.run(
                "python3",
                [Program.helper("add_key.py"), "user", "hexadecimal", try directory.write("h", text: hexadecimal)]
                    + [try Program.path, "serve", image, "--run", "true", "--secret", "0=hex:keyring:hexadecimal"])
            #expect(source.code == 0, "\(source.errors)")
        }
    }

    private var hexadecimal: String { Self.passphrase.utf8.map { String($0, radix: 16) }.joined(separator: " \n") }

    @Test
    func `a secret of any source can be text for bytes, and what is no such text is refused without its contents`()
        async throws
    {
        try await withContainer { image, directory in
            let digits = try directory.write("digits", text: "\(hexadecimal.uppercased())\r\n")
            let base64 = try directory.write("base64", text: Data(Self.passphrase.utf8).base64EncodedString() + "\n")
            for source in [
                "hex:passphrase-file:\(digits)", "hex:key-file:\(digits)", "0=hex:command:cat \(digits)",
                "base64:passphrase-file:\(base64)", "base64:command:cat \(base64)", "base64:fd:0",
            ] {
                let outcome = try await Program.run(
                    ["serve", image, "--run", "true", "--secret", source], input: Array(try File.contents(base64)))
                #expect(outcome.code == 0, "\(source): \(outcome.errors)")
            }
            let config = try directory.write(
                "c", text: #"{"images":[{"path":"disk.luks","secret":["0=hex:key-file:digits"]}]}"#)
            #expect(try await Program.run(["serve", "--config", config, "--run", "true"]).code == 0)
            for (source, reason) in [
                ("hex:command:echo 7g", "byte 2 is no hexadecimal digit"), ("hex:command:echo 787", "it has 3 digits"),
                ("base64:command:echo hunter2", "it has 7 characters"),
                ("base64:command:echo hunter2-", "byte 8 is no character of base64"),
            ] {
                let outcome = try await serve(image, ["--secret", source])
                Program.expectRefusal(outcome, status: 77, saying: [reason])
                #expect(!outcome.errors.contains("hunter2"))
            }
            for source in ["hexx:command:x", "hex:", "0=raw-key-file:x", "0=volume-key-file:x", "fd:-1", "x=command:y"]
            {
                let outcome = try await serve(image, ["--secret", source])
                #expect(outcome.code == 64, "\(source): \(outcome.errors)")
            }
        }
    }

    @Test func `a new image takes its secret from a command, and a list from any source`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.encrypted(Self.passphrase)
        let list = try directory.write("list", text: "\(image)\tcommand:echo '\(Self.passphrase)'\n")
        let outcome = try await Program.run(
            ["migrate", "--list", list, "--to", "luks2", "--output-dir", directory.path, "--iter-time", "10"]
                + ["--new-secret", "hex:command:echo 61 62 63"])
        #expect(outcome.code == 0, "\(outcome.errors)")
        let made = try #require(
            try FileManager.default.contentsOfDirectory(atPath: directory.path).first { $0.hasSuffix(".luks2") })
        try await Tool.succeed(
            "cryptsetup", ["open", "--test-passphrase", "--key-file", "-", directory.file(made)],
            input: Array("abc".utf8))
    }

    private func serve(_ image: String, _ arguments: [String]) async throws -> Tool.Outcome {
        try await Program.run(["serve", image, "--run", "true"] + arguments)
    }

    /// Gives `body` a container that the passphrase opens.
    private func withContainer(_ body: (_ image: String, _ directory: TemporaryDirectory) async throws -> Void)
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        var maker = LUKSMaker(directory: directory)
        maker.size = 3 << 20
        let image = try await maker.format(
            type: "luks1", passphrase: Self.passphrase, options: ["--pbkdf-force-iterations", "1000"])
        try await body(image, directory)
    }
}
