// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Secrets and keyslots of LUKS containers.
@Suite(.fewAtATime)
struct UnlockTests {
    @Test func `every secret is tried on every keyslot, the cheapest first, and the log names keyslot and source`()
        async throws
    {
        try await withContainer { maker, path in
            // Keyslot 1 is dear, keyslot 2 cheap; keyslot 0 lies between.
            try await maker.addKey("dear", to: path, ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "50000"])
            try await maker.addKey("third", to: path)
            let wrong = try maker.directory.write("wrong", text: "no")
            let third = try maker.directory.write("third", text: "third\n")
            let dear = try maker.directory.write("dear", text: "dear")
            let both = try await opens(maker, path, ["--passphrase-file", wrong, "--passphrase-file", third, "-vv"])
            #expect(both.contains("keyslot 2 opens with the passphrase file \(third)"), "\(both)")
            let tried = both.matches(of: #/trying keyslot (\d) /#).map { String($0.output.1) }
            #expect(tried.first == "0" && tried.last == "2" && !tried.contains("1"), "\(both)")

            let last = try await opens(maker, path, ["--passphrase-file", wrong, "--key-file", dear, "-vv"])
            #expect(last.contains("keyslot 1 opens with the key file \(dear)"), "\(last)")
            let order = last.matches(of: #/trying keyslot (\d) /#).map { String($0.output.1) }
            #expect(order == ["0", "0", "2", "2", "1", "1"], "\(last)")
            #expect(!last.contains("third") && !last.contains("correct horse"), "no secret is shown")
        }
    }

    @Test func `a keyslot that is named is the only one that is tried`() async throws {
        try await withContainer { maker, path in
            try await maker.addKey("second", to: path)
            let file = try maker.directory.write("p", text: "second")
            let serve = ["serve", path, "--passphrase-file", file, "--socket", maker.directory.file("s")]
            _ = try await opens(maker, path, ["--passphrase-file", file, "--key-slot", "1"])
            try await Program.expectRefusal(
                serve + ["--key-slot", "0"], status: 77, saying: "1 keyslot (0) tried", "leave --key-slot out")
            try await Program.expectRefusal(
                serve + ["--key-slot", "7"], status: 64, saying: "there is no keyslot 7", "0, 1")
        }
    }

    @Test func `keyslots with priority ignore are tried only by name, preferred ones first`() async throws {
        try await withContainer { maker, path in
            try await maker.addKey("second", to: path, ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "30000"])
            try await maker.cryptsetup(["config", path, "--key-slot", "1", "--priority", "prefer"])
            let file = try maker.directory.write("p", text: "second")
            let log = try await opens(maker, path, ["--passphrase-file", file, "-vv"])
            #expect(log.matches(of: #/trying keyslot/#).count == 1, "\(log)")
            try await maker.cryptsetup(["config", path, "--key-slot", "1", "--priority", "ignore"])
            try await Program.expectRefusal(
                ["serve", path, "--passphrase-file", file, "--socket", maker.directory.file("s")], status: 65,
                saying: "1 keyslot (0) tried", "keyslot 1 was not tried: it has priority ignore", "--key-slot 1")
            _ = try await opens(maker, path, ["--passphrase-file", file, "--key-slot", "1"])
            try await maker.cryptsetup(["config", path, "--key-slot", "0", "--priority", "ignore"])
            try await Program.expectRefusal(
                ["serve", path, "--passphrase-file", file, "--socket", maker.directory.file("s")], status: 65,
                saying: "priority ignore", "--key-slot 0", "--key-slot 1")
        }
    }

    @Test(arguments: ["luks1", "luks2"])
    func `a wrong passphrase ends with 77, the number of keyslots and what to do`(_ type: String) async throws {
        try await withContainer(type) { maker, path in
            try await maker.addKey("second", to: path)
            let file = try maker.directory.write("p", text: "wrong secret")
            try await Program.expectRefusal(
                ["serve", path, "--passphrase-file", file, "--socket", maker.directory.file("s")], status: 77,
                saying: "no keyslot opens with the passphrase file \(file)", "2 keyslots (0, 1) tried",
                "check the spelling")
            #expect(!File.exists(maker.directory.file("s")))
        }
    }

    @Test(arguments: ["luks1", "luks2"])
    func `a part of a key file, at any offset and of any size, is the secret`(_ type: String) async throws {
        try await withContainer(type) { maker, path in
            var bytes = [UInt8]((0..<300).map { UInt8(truncatingIfNeeded: $0 &* 7) })
            bytes.insert(contentsOf: Array("correct horse".utf8), at: 17)
            let file = try maker.directory.write("k", Data(bytes))
            let other = try maker.directory.write("other", Data(bytes.reversed()))
            let exact = ["--key-file-offset", "17", "--key-file-size", "13"]
            _ = try await opens(maker, path, ["--key-file", file] + exact)
            _ = try await opens(
                maker, path,
                ["--key-file", other, "--key-file-offset", "0", "--key-file-size", "0", "--key-file", file] + exact)
            let serve = ["serve", path, "--socket", maker.directory.file("s"), "--key-file", file]
            try await Program.expectRefusal(
                serve + ["--key-file-offset", "313"], status: 77, saying: "no byte at --key-file-offset 313")
            try await Program.expectRefusal(
                serve + ["--key-file-offset", "300", "--key-file-size", "14"], status: 77,
                saying: "holds 13 bytes from byte 300 on", "--key-file-size 14")
        }
    }

    @Test(arguments: ["luks1", "luks2"])
    func `the volume key opens without a keyslot, and is proved by the digest`(_ type: String) async throws {
        try await withContainer(type) { maker, path in
            let key = maker.directory.file("volume-key")
            let passphrase = try maker.directory.write("p", text: "correct horse")
            try await maker.cryptsetup([
                "luksDump", "--dump-volume-key", "--volume-key-file", key, "--key-file", passphrase, path,
            ])
            try await maker.cryptsetup(["luksKillSlot", path, "0"])
            let log = try await opens(maker, path, ["--volume-key-file", key])
            #expect(log.contains("the volume key from the volume key file \(key) is right"))
            let serve = ["serve", path, "--socket", maker.directory.file("s")]
            var bytes = try File.contents(key)
            bytes[5] ^= 1
            let wrong = try maker.directory.write("wrong-key", bytes)
            try await Program.expectRefusal(
                serve + ["--volume-key-file", wrong], status: 77, saying: "not the volume key", "digest 0")
            let short = try maker.directory.write("short-key", bytes.dropLast())
            try await Program.expectRefusal(
                serve + ["--volume-key-file", short], status: 77, saying: "(\(bytes.count - 1) bytes) is not",
                "the volume key")
            try await Program.expectRefusal(
                serve + ["--passphrase-file", passphrase], status: 77, saying: "no keyslot holds the key",
                "--volume-key-file")
        }
    }

    @Test func `a key may lie far inside a large file, or a device that never ends`() async throws {
        try await withContainer { maker, path in
            let large = maker.directory.file("large")
            try await Tool.shell(
                "truncate -s 20M \(large); printf 'correct horse' | dd of=\(large) bs=1 seek=10000000 conv=notrunc status=none"
            )
            let part = ["--key-file-offset", "10000000", "--key-file-size", "13"]
            _ = try await opens(maker, path, ["--key-file", large] + part)
            let piped = [
                "-c",
                "exec \(try Program.path) serve \(path) --socket \(maker.directory.file("s")) --key-file - "
                    + part.joined(separator: " ") + " < <(cat \(large))",
            ]
            try await ServerUnderTest.run(piped, program: "/bin/bash", in: maker.directory) { _ in }
            let serve = ["serve", path, "--socket", maker.directory.file("s")]
            try await Program.expectRefusal(
                serve + ["--key-file", "/dev/zero", "--key-file-size", "32"], status: 77, saying: "no keyslot opens")
            try await Program.expectRefusal(
                serve + ["--key-file", large], status: 77, saying: "more than 8388608 bytes", "--key-file-offset")
        }
    }

    @Test func `the empty passphrase opens a keyslot that has it`() async throws {
        try await withContainer { maker, path in
            try await maker.addKey("", to: path)
            let empty = try maker.directory.write("empty", text: "")
            let newline = try maker.directory.write("newline", text: "\n")
            for source in [["--key-file", empty], ["--passphrase-file", empty], ["--passphrase-file", newline]] {
                let log = try await opens(maker, path, source)
                #expect(log.contains("keyslot 1 opens"), "\(log)")
            }
        }
    }

    @Test func `nobody is asked for a passphrase that could not help`() async throws {
        try await withContainer { maker, path in
            let serve = ["serve", path, "--socket", maker.directory.file("s")]
            try await Program.expectRefusal(serve + ["--key-slot", "5"], status: 64, saying: "there is no keyslot 5")
            try await Program.expectRefusal(
                serve + ["--max-kdf-iterations", "999"], status: 65, saying: "--max-kdf-iterations")
            try await maker.cryptsetup(["config", path, "--key-slot", "0", "--priority", "ignore"])
            try await Program.expectRefusal(serve, status: 65, saying: "priority ignore", "--key-slot 0")
        }
    }

    @Test func `what is not tried is no wrong passphrase: serve and info name the keyslot and its option`() async throws
    {
        try await withContainer { maker, path in
            try await maker.addKey("second", to: path)
            let second = ["--passphrase-file", try maker.directory.write("p", text: "second")]
            let wrong = ["--passphrase-file", try maker.directory.write("w", text: "wrong")]
            let serve = ["serve", path, "--socket", maker.directory.file("s")]
            let check = ["info", path, "--check-passphrase"]
            try await maker.cryptsetup(["config", path, "--key-slot", "1", "--priority", "ignore"])
            for secret in [second, wrong] {
                try await Program.expectRefusal(
                    serve + secret, status: 65, saying: "keyslot 1 was not tried: it has priority ignore",
                    "--key-slot 1")
                let outcome = try await Program.run(check + secret)
                #expect(outcome.code == 65 && outcome.output.contains("opens no keyslot that was tried"))
                #expect(outcome.errors.contains("keyslot 1 was not tried: it has priority ignore"))
                #expect(outcome.errors.contains("--key-slot 1"), "\(outcome.errors)")
            }
            #expect(try await Program.run(check + second + ["--key-slot", "1"]).code == 0)
            // One that was tried, because it alone was to be.
            for command in [serve, check] {
                #expect(try await Program.run(command + wrong + ["--key-slot", "1"]).code == 77)
            }
            let lines = try await Tool.succeed(try Program.path, ["info", path])
            #expect(lines.contains("priority ignore: tried only with --key-slot 1"), "\(lines)")
            // Both of them.
            try await maker.cryptsetup(["config", path, "--key-slot", "0", "--priority", "ignore"])
            for command in [serve, check] {
                try await Program.expectRefusal(
                    command + second, status: 65, saying: "it has priority ignore", "--key-slot 0", "--key-slot 1")
            }
        }
    }

    @Test func `an unbound keyslot opens no data, and serve and info say so`() async throws {
        try await withContainer { maker, path in
            try await maker.addKey("other", to: path, LUKSMaker.cheap + ["--unbound", "--key-size", "256"])
            let other = ["--passphrase-file", try maker.directory.write("p", text: "other")]
            let serve = ["serve", path, "--socket", maker.directory.file("s")]
            let check = ["info", path, "--check-passphrase"]
            try await Program.expectRefusal(serve + other, status: 77, saying: "1 keyslot (0) tried")
            for named in [[], ["--key-slot", "1"]] {
                let outcome = try await Program.run(check + other + named)
                #expect(outcome.code == 77 && outcome.output.contains("opens keyslot 1, but not the data"))
                #expect(outcome.output.contains("keyslot 1 is unbound: its key opens no data"), "\(outcome.output)")
            }
            try await Program.expectRefusal(
                serve + other + ["--key-slot", "1"], status: 64, saying: "keyslot 1 does not hold the key of the data")
            // Alone, it is not tried by anybody.
            try await maker.cryptsetup(["luksKillSlot", path, "0"])
            try await Program.expectRefusal(
                serve + other, status: 65, saying: "no keyslot holds the key of the data (unbound: 1)",
                "--volume-key-file")
            let outcome = try await Program.run(check + other)
            #expect(outcome.code == 65 && outcome.output.contains("opens keyslot 1, but not the data"))
            #expect(outcome.errors.contains("no keyslot holds the key of the data (unbound: 1)"), "\(outcome.errors)")
        }
    }

    @Test func `a keyslot of another version is unusable by its name, and the others open`() async throws {
        try await withContainer { maker, path in
            try await maker.addKey("second", to: path)
            // The first releases of cryptsetup 2.0 wrote this name.
            try await maker.edit(path, "metadata['keyslots']['1']['kdf']['type'] = 'argon2'")
            let first = ["--passphrase-file", try maker.directory.write("f", text: "correct horse")]
            let second = ["--passphrase-file", try maker.directory.write("s2", text: "second")]
            let serve = ["serve", path, "--socket", maker.directory.file("s")]
            _ = try await opens(maker, path, first)
            let reason = "its key derivation \"argon2\" is not known here"
            try await Program.expectRefusal(
                serve + second, status: 65, saying: "1 keyslot (0) tried", "keyslot 1 was not tried: \(reason)",
                "name the keyslot that it is for with --key-slot")
            try await Program.expectRefusal(
                serve + second + ["--key-slot", "1"], status: 65, saying: "keyslot 1 cannot be used: \(reason)")
            let check = ["info", path, "--check-passphrase"]
            let outcome = try await Program.run(check + second)
            #expect(outcome.code == 65 && outcome.errors.contains("keyslot 1 was not tried: \(reason)"))
            #expect(outcome.errors.contains("name the keyslot that it is for with --key-slot"), "\(outcome.errors)")
            #expect(try await Program.run(check + first).code == 0)
            #expect(try await Program.run(["audit", path]).code == 0)
            let lines = try await Tool.succeed(try Program.path, ["info", path])
            #expect(lines.contains("which no passphrase opens: \(reason)"), "\(lines)")
            try await maker.edit(path, "metadata['keyslots']['0']['area']['type'] = 'striped'")
            for command in [serve, check] {
                try await Program.expectRefusal(
                    command + first, status: 65, saying: "keyslot 0: its type of area \"striped\" is not known here",
                    "keyslot 1: \(reason)")
            }
        }
    }

    @Test func `what all keyslots cost together is bounded, and --max-kdf-seconds changes the bound`() async throws {
        try await withContainer { maker, path in
            for number in 1...7 { try await maker.addKey("passphrase \(number)", to: path) }
            try await maker.edit(
                path, "for n in '1234567': metadata['keyslots'][n]['kdf']['iterations'] = 268435456")
            let file = ["--passphrase-file", try maker.directory.write("p", text: "correct horse")]
            for command in [
                ["serve", path, "--socket", maker.directory.file("s")], ["info", path, "--check-passphrase"],
            ] {
                // Before anybody is asked for anything.
                for secret in [[], file] {
                    try await Program.expectRefusal(
                        command + secret, status: 65, saying: "on 8 keyslots and digests could take about 1127 seconds",
                        "--key-slot", "--max-kdf-seconds")
                }
            }
            _ = try await opens(maker, path, file + ["--key-slot", "0"])
            // The cheapest keyslot is tried first.
            _ = try await opens(maker, path, file + ["--max-kdf-seconds", "1200"])
        }
    }

    @Test func `when memory cannot be locked, it says so once, and serves`() async throws {
        try await withContainer { maker, path in
            let file = try maker.directory.write("p", text: "correct horse")
            let line =
                "ulimit -l 64; exec \(geteuid() == 0 ? "setpriv --inh-caps=-all --bounding-set=-all --reuid 65534 --clear-groups" : "") "
                + "\(try Program.path) serve \(path) --passphrase-file \(file) --run 'nbdinfo --size \"$uri\"'"
            try await Tool.shell("chmod 755 \(maker.directory.path); chmod 644 \(file) \(path)")
            let outcome = try await Tool.run(
                "/bin/bash", ["-c", line], environment: ["XDG_RUNTIME_DIR": nil, "TMPDIR": nil])
            #expect(outcome.code == 0, "\(outcome.errors)")
            #expect(outcome.errors.matches(of: #/RLIMIT_MEMLOCK/#).count == 1, "\(outcome.errors)")
        }
    }

    @Test func `what a key derivation may cost is bounded, and options change the bounds`() async throws {
        try await withContainer(options: [
            "--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "65536", "--pbkdf-parallel", "2",
        ]) { maker, path in
            let file = try maker.directory.write("p", text: "correct horse")
            let serve = ["serve", path, "--passphrase-file", file, "--socket", maker.directory.file("s")]
            try await Program.expectRefusal(
                serve + ["--max-kdf-memory", "65535K"], status: 65, saying: "keyslot 0", "memory 65536 KiB",
                "allowed 65535 KiB", "--max-kdf-memory")
            try await Program.expectRefusal(
                serve + ["--max-kdf-work", "255M"], status: 65, saying: "keyslot 0", "--max-kdf-work")
            try await Program.expectRefusal(
                serve + ["--max-kdf-iterations", "10"], status: 65, saying: "--max-kdf-iterations")
            _ = try await opens(
                maker, path, ["--passphrase-file", file, "--max-kdf-memory", "64M", "--max-kdf-work", "256M"])
        }
    }

    @Test func `clients never wait for a key derivation: nothing listens before it, and none happens after it`()
        async throws
    {
        try await withContainer(options: [
            "--pbkdf", "argon2id", "--pbkdf-force-iterations", "6", "--pbkdf-memory", "262144", "--pbkdf-parallel", "1",
        ]) { maker, path in
            let file = try maker.directory.write("p", text: "correct horse")
            let arguments = ["serve", path, "--passphrase-file", file, "--socket", maker.directory.file("s")]
            try await ServerUnderTest.run(arguments, in: maker.directory) { server in
                let derivation = try server.processorTicks()
                for _ in 0..<4 { try await Tool.succeed("nbdinfo", [server.uri]) }
                let clients = try server.processorTicks() - derivation
                // Four times the derivation would be four times as much.
                #expect(clients < derivation, "\(clients) after \(derivation)")
            }
        }
    }

    @Test func `while the passphrase is missing, no socket is there`() async throws {
        try await withContainer { maker, path in
            let line = """
                mkfifo \(maker.directory.file("pipe"))
                \(try Program.path) serve \(path) --passphrase-file \(maker.directory.file("pipe")) \
                --socket \(maker.directory.file("s")) & server=$!
                exec 3> \(maker.directory.file("pipe")) # opens when the server begins to read the passphrase
                test ! -e \(maker.directory.file("s"))
                kill $server
                """
            try await Tool.shell(line)
        }
    }

    @Test func `a long derivation is announced`() async throws {
        try await withContainer(options: [
            "--pbkdf", "argon2id", "--pbkdf-force-iterations", "30", "--pbkdf-memory", "262144", "--pbkdf-parallel",
            "1",
        ]) { maker, path in
            let file = try maker.directory.write("p", text: "correct horse")
            let log = try await opens(maker, path, ["--passphrase-file", file])
            #expect(log.contains("trying keyslot 0 (argon2id"), "\(log)")
        }
    }

    /// Serves the container, reads its first and last bytes, and gives what the server logged.
    private func opens(
        _ maker: LUKSMaker, _ path: String, _ arguments: [String], sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> String {
        let outcome = try await ServerUnderTest.run(
            ["serve", path, "--socket", maker.directory.file("s")] + arguments, in: maker.directory,
            sourceLocation: sourceLocation
        ) { server in
            let size = try #require(Int(try await Tool.succeed("nbdinfo", ["--size", server.uri]).dropLast()))
            #expect(size > 0 && size < maker.size, sourceLocation: sourceLocation)
        }
        return outcome.errors
    }

    private func withContainer(
        _ type: String = "luks2", options: [String] = LUKSMaker.cheap,
        _ body: (LUKSMaker, _ path: String) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory)
        try await body(maker, try await maker.format(type: type, options: options))
    }
}
