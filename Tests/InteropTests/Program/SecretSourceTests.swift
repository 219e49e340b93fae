// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Testing

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

    @Test func `a secret for a layer that is not there is refused with the names of those that are`() async throws {
        try await SmallDisk.with(passphrase: Self.passphrase) { disk, image in
            let key = try disk.directory.write("key", text: Self.passphrase)
            let top = disk.directory.file("top")
            try await Tool.succeed(
                "qemu-img", ["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", image, top, "1M"])
            let pinned = ["--secret", "1=key-file:\(key)"]
            let missing = ["--secret", "7=key-file:\(key)"]
            let sentence =
                "a secret is given for layer 7, and there is no such layer; there are 0 (\(top)), 1 (\(image))"
            for command in [["serve", top, "--run", "true"], ["migrate", top, disk.directory.file("new.raw")]] {
                try await Program.expectRefusal(command + pinned + missing, status: 64, saying: sentence)
            }
            let opened = try await Program.run(["serve", top, "--run", "true"] + pinned)
            #expect(opened.code == 0 && !opened.errors.contains("not used"), "\(opened.errors)")
            // Of one that needs none it is said.
            let unused = try await Program.run(["serve", top, "--run", "true", "--secret", "0=key-file:k"] + pinned)
            #expect(unused.errors.contains("cannot open the key file k"), "\(unused.errors)")
            let plain = try await Program.run(
                ["serve", top, "--run", "true", "--secret", "0=key-file:\(key)"] + pinned)
            #expect(
                plain.code == 0 && plain.errors.contains("the secret that is for layer 0 alone is not used"),
                "\(plain.errors)")
            // A key is called so in every form.
            try await Program.expectRefusal(
                ["serve", image, "--run", "true", "--secret", "hex:key-file:\(key)"], status: 77,
                saying: "the key file \(key) (hexadecimal) is not hexadecimal")
        }
    }

    @Test func `the objects that QEMU opens an image with open it here, encrypted ones too`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.encrypted(Self.passphrase)
        let key = (0..<32).map { UInt8($0 * 7 + 1) }
        let vector = (0..<16).map { UInt8($0 * 11 + 3) }
        try directory.write("plain", text: Self.passphrase)
        try directory.write("base64", text: Data(Self.passphrase.utf8).base64EncodedString() + "\n")
        try directory.write("key", text: Data(key).base64EncodedString())
        try directory.write("raw,key", Data(key))
        try await Tool.shell(
            """
            cd \(directory.path)
            openssl enc -aes-256-cbc -K \(key.hexadecimal()) -iv \(vector.hexadecimal()) -in plain -out wrapped
            base64 -w 0 wrapped > wrapped.base64
            """)
        let iv = "iv=\(Data(vector).base64EncodedString())"
        let data = try File.text(directory.file("wrapped.base64"))
        let master = "secret,id=m,file=key,format=base64"
        for objects in [
            ["secret,id=s,file=plain"], ["qom-type=secret,id=s,file=base64,format=base64"],
            [master, "secret,id=s,file=wrapped.base64,format=base64,keyid=m,\(iv)"],
            ["secret,id=m,file=raw,,key", "secret,id=s,file=wrapped,keyid=m,format=raw,\(iv)"],
            [master, "secret,id=s,data=\(data),format=base64,keyid=m,\(iv)"],
            [#"{"qom-type":"secret","id":"s","file":"plain"}"#],
            [
                #"{"id": "m", "file": "raw,key", "qom-type": "secret"}"#,
                #"{"qom-type":"secret","id":"s","file":"wrapped.base64","format":"base64","keyid":"m","iv":"\#(Data(vector).base64EncodedString())"}"#,
            ],
        ] {
            let arguments = objects.map { "--object \(ShellText.quoted($0))" }.joined(separator: " ")
            try await Tool.shell(
                """
                cd \(directory.path)
                qemu-img convert \(arguments) --image-opts \
                    driver=qcow2,file.filename=\(image),encrypt.format=aes,encrypt.key-secret=s -O raw qemu.raw
                \(try Program.path) serve \(image) \(arguments) --run 'nbdcopy "$uri" ours.raw'
                cmp qemu.raw ours.raw
                """)
            #expect(try File.contents(directory.file("ours.raw")) == disk.contents, "\(objects)")
        }
        let plain = directory.file("plain")
        for (objects, status, reason) in [
            (["secret,id=s"], 64, "either file= or data="), (["rng-random,id=s"], 64, "type secret alone"),
            (["secret,id=s,data=hunter2"], 64, "can be seen by everybody"),
            ([#"{"qom-type":"secret","id":"s","data":"hunter2"}"#], 64, "can be seen by everybody"),
            ([#"{"qom-type":"rng-random","id":"s"}"#], 64, "type secret alone"),
            ([#"{"qom-type":"secret","id":5,"file":"hunter2"}"#], 64, "their values are texts"),
            ([#"{"qom-type":"secret","id":"s","what":"hunter2"}"#], 64, "their values are texts"),
            ([#"{"qom-type":"secret","id":"s","id":"hunter2"}"#], 64, "at byte"),
            (["secret,id=s,file=\(plain),keyid=m,\(iv)"], 64, "there is no object \"m\""),
            (["secret,id=s,file=\(plain),keyid=s,\(iv)"], 64, "encrypted with itself"),
            (["secret,id=s,file=\(plain),keyid=m,iv=AAAA"], 64, "16 bytes in base64"),
            (["secret,id=m,file=\(plain)", "secret,id=s,data=\(data),format=base64,keyid=m,\(iv)"], 77, "has 32"),
            (
                [
                    "secret,id=m,file=\(directory.file("key")),format=base64",
                    "secret,id=s,file=\(directory.file("raw,,key")),keyid=m,\(iv)",
                ], 77, "is not its key"
            ),
        ] as [([String], Int32, String)] {
            let outcome = try await serve(image, objects.flatMap { ["--object", $0] })
            #expect(outcome.code == status && outcome.errors.contains(reason), "\(objects): \(outcome.errors)")
            #expect(!outcome.errors.contains("hunter2"))
        }
    }

    @Test func `the files in which libvirt keeps secrets open an image, encrypted or not`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.encrypted("my passphrase")
        // What libvirt 12.8.0 has written for it, with encrypt_data = 0 and 1, and the key that it had.
        try directory.write("disk.base64", text: "bXkgcGFzc3BocmFzZQ==")
        try directory.write("disk.aes256cbc", text: "ks5ZxFQ4b0teV7xXgjevgP9QyL+2AREvR7qKpoWJHJY=")
        try directory.write("key", #require(Data(base64Encoded: "amU7UGpwDHMkeD8ecp00TxJjJ6jl/NqP+Wp1dO891PQ=")))
        let encrypted = "secret,id=s,file=\(directory.file("disk.aes256cbc")),format=base64,keyid=k"
        let key = "secret,id=k,file=\(directory.file("key"))"
        for secret in [
            ["--secret", "base64:key-file:\(directory.file("disk.base64"))"], ["--object", key, "--object", encrypted],
        ] {
            try await ServerUnderTest.run(["serve", image] + secret + disk.socket, in: directory) { server in
                try server.expectContents(disk.contents)
            }
        }
        let other = try directory.write("other", Data(repeating: 1, count: 32))
        let outcome = try await serve(image, ["--object", "secret,id=k,file=\(other)", "--object", encrypted])
        #expect(outcome.code == 77 && outcome.errors.contains("is not its key"), "\(outcome.errors)")
        let raw = try await serve(
            image, ["--object", key, "--object", "secret,id=s,file=\(directory.file("key")),keyid=k"])
        #expect(raw.code == 64 && raw.errors.contains("format= is not raw"), "\(raw.errors)")
    }

    @Test func `info tries the secret of the image itself, and no other on it`() async throws {
        try await withContainer { image, directory in
            let right = try directory.write("right", text: Self.passphrase)
            let wrong = try directory.write("wrong", text: "wrong")
            for (secrets, code) in [
                (["--secret", "0=passphrase-file:\(right)"], 0), (["--secret", "0=passphrase-file:\(wrong)"], 77),
                (["--secret", "0=passphrase-file:\(wrong)", "--passphrase-file", right], 77),
            ] as [([String], Int32)] {
                let outcome = try await Program.run(["info", image, "--check-passphrase"] + secrets)
                #expect(outcome.code == code, "\(secrets): \(outcome.errors)")
            }
        }
    }

    @Test func `a secret of libvirt is what virsh prints in base64`() async throws {
        try await withContainer { image, directory in
            let uuid = "01234567-89ab-cdef-0123-456789abcdef"
            let virsh = try directory.write(
                "virsh",
                text: """
                    #!/bin/sh
                    test "$*" = "secret-get-value \(uuid)" || { echo "error: $*" >&2; exit 1; }
                    printf '\(Self.passphrase)' | base64; echo
                    """)
            try await Tool.shell("chmod 755 \(virsh)")
            func run(_ arguments: [String], path: String) async throws -> Tool.Outcome {
                // The shell ends in the program, so that its own PATH is as it is.
                try await Tool.run(
                    "/bin/sh",
                    ["-c", "PATH=\(path); exec \"$@\"", "sh", try Program.path, "serve", image, "--run", "true"]
                        + arguments)
            }
            let opened = try await run(["--libvirt-secret", uuid], path: "\(directory.path):$PATH")
            #expect(opened.code == 0 && opened.errors.contains("opens with the secret \(uuid) of libvirt"))
            let other = uuid.replacing("01234567", with: "76543210")
            let failed = try await run(["--secret", "0=libvirt-secret:\(other)"], path: "\(directory.path):$PATH")
            #expect(failed.code == 66 && failed.errors.contains("error: secret-get-value \(other)\n"))
            #expect(failed.errors.contains("ended with status 1; see `virsh secret-list`"), "\(failed.errors)")
            let missing = try await run(["--libvirt-secret", uuid], path: "/nowhere")
            Program.expectRefusal(
                missing, status: 66, saying: ["virsh is not installed", "apt install libvirt-clients"])
            #expect(try await serve(image, ["--libvirt-secret", "--all"]).code == 64)
        }
    }

    @Test func `info tells how to get the passphrase that a token stands for, and the command is run`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        var maker = LUKSMaker(directory: directory)
        maker.size = 18 << 20
        let image = try await maker.format(passphrase: Self.passphrase)
        // With what the plugins of systemd for cryptsetup look for.
        let hash = String(repeating: "00", count: 32)
        let advice = [
            ("clevis", "", "give --passphrase-command '"),
            ("systemd-recovery", "", "the recovery key that systemd-cryptenroll has shown"),
            (
                "systemd-tpm2", #","tpm2-blob":"AAAA","tpm2-pcrs":[7],"tpm2-policy-hash":"\#(hash)""#,
                "cryptsetup open --token-id 2"
            ),
            ("systemd-fido2", #","fido2-credential":"AAAA","fido2-salt":"AAAA""#, "where its FIDO2 token is"),
            ("systemd-pkcs11", #","pkcs11-uri":"pkcs11:token=x","pkcs11-key":"AAAA""#, "where its smart card is"),
            ("example", "", ""),
        ]
        for (type, fields, _) in advice {
            let token = try directory.write("t.json", text: #"{"type":"\#(type)","keyslots":["0"]\#(fields)}"#)
            try await maker.cryptsetup(["token", "import", "--json-file", token, image])
        }
        let lines = try await Tool.succeed(try Program.path, ["info", image]).split(separator: "\n")
        for (number, (type, _, words)) in advice.enumerated() {
            let line = try #require(lines.first { $0.hasPrefix("token \(number):") })
            #expect(line.contains("\(type), keyslots [0]") && (words.isEmpty || line.contains(words)), "\(line)")
            #expect(line.hasSuffix("[0]") == words.isEmpty, "\(line)")
        }
        // In place of clevis, whose secrets are elsewhere, a program that wants the same arguments.
        let clevis = try directory.write(
            "clevis",
            text: "#!/bin/sh\ntest \"$*\" = 'luks pass -d \(image) -s 0' && printf '\(Self.passphrase)'\n")
        let printed = lines.compactMap { $0.firstMatch(of: /give (--passphrase-command .*)/) }.first.map {
            String($0.1)
        }
        try await Tool.shell(
            "chmod 755 \(clevis); PATH=\(directory.path):$PATH; \(try Program.path) serve \(image) --run true \(try #require(printed))"
        )
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
