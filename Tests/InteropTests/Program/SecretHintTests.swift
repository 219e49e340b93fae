// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What is said of a secret that does not fit: a newline that is too many or too few, and keys that were written down as text.
@Suite(.fewAtATime)
struct SecretHintTests {
    /// A file with a secret that does not fit as it is.
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        /// What opens the container.
        let right: String
        /// The option, and what its file holds.
        let option: String
        let given: String
        /// What is said, and the option that opens it.
        let hint: String
        let advice: String
    }

    static let newlines = [
        Case(
            testDescription: "a newline that belongs to it", right: "secret\n", option: "--passphrase-file",
            given: "secret\n", hint: "with a line feed at its end", advice: "--key-file"),
        Case(
            testDescription: "CR LF that belongs to it", right: "secret\r\n", option: "--passphrase-file",
            given: "secret\r\n", hint: "it ends in CR LF, the newline of Windows, which was left out",
            advice: "--key-file"
        ),
        Case(
            testDescription: "a newline that does not belong to it", right: "secret", option: "--key-file",
            given: "secret\n", hint: "without the newline at its end", advice: "--passphrase-file"),
        Case(
            testDescription: "CR LF that does not belong to it", right: "secret", option: "--key-file",
            given: "secret\r\n", hint: "without the newline at its end",
            advice: "--passphrase-file"),
    ]

    @Test(arguments: newlines)
    func `a newline at the end is told, by serve and info, and the advice opens the container`(_ test: Case)
        async throws
    {
        try await withContainer(test.right) { image, directory in
            let file = try directory.write("it's a secret", text: test.given)
            let advice = "give \(test.advice) '\(directory.path)/it'\\''s a secret'"
            let serve = try await Program.run(["serve", image, test.option, file, "--run", "true"])
            Program.expectRefusal(serve, status: 77, saying: [test.hint, advice])
            let info = try await Program.run(["info", image, "--check-passphrase", test.option, file])
            #expect(
                info.code == 77 && info.output.contains(test.hint) && info.output.contains(advice), "\(info.output)")
            // One hint, and no other that contradicts it.
            #expect(serve.errors.matches(of: /give --/).count == 1, "\(serve.errors)")
            #expect(info.output.matches(of: /give --/).count == 1, "\(info.output)")
            let opened = try await Program.run(["serve", image, test.advice, file, "--run", "true"])
            #expect(opened.code == 0, "\(opened.errors)")
        }
    }

    @Test(arguments: ["--passphrase-file", "--key-file"])
    func `no newline is spoken of where there is none`(_ option: String) async throws {
        try await withContainer("right") { image, directory in
            let file = try directory.write("key", text: "wrong")
            for command in [["serve", "--run", "true"], ["info", "--check-passphrase"]] {
                let outcome = try await Program.run(command + [image, option, file])
                let said = outcome.output + outcome.errors
                #expect(outcome.code == 77 && !said.contains("newline") && !said.contains("looks like"), "\(said)")
            }
        }
    }

    /// Commands that write a file as text, and how the text is called.
    static let encodings = [
        ("od -An -v -tx1 | tr -d ' \\n'", "hexadecimal"), ("od -An -v -tx1 | tr a-f A-F", "hexadecimal"),
        ("base64 -w 0", "base64"), ("base64 | sed 's/$/\\r/'", "base64"),
    ]

    @Test(arguments: encodings)
    func `a key that was written down as text is recognised, and the printed option takes the key`(
        _ command: String, _ name: String
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let key = (0..<64).map { UInt8(truncatingIfNeeded: $0 * 37 + 5) }
        let path = try directory.write("key", key)
        let text = directory.file("it's text")
        try await Tool.shell("cat \(path) | \(command) > \"\(text)\"")
        let image = try directory.write("disk.luks", Data(count: 8 << 20))
        try await Tool.succeed(
            "cryptsetup",
            ["--batch-mode", "luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--key-size", "512"]
                + ["--volume-key-file", path, image, path])
        for given in ["--key-file", "--passphrase-file", "--volume-key-file"] {
            let outcome = try await Program.run(["serve", image, given, text, "--run", "true"])
            #expect(
                outcome.code == 77 && outcome.errors.contains("looks like 64 bytes in \(name)"), "\(outcome.errors)")
            try await expectToOpen(image, printed: outcome.errors)
        }
        // What is no file is named by its source.
        let line = ["serve", image, "--secret", "command:cat \"\(text)\"", "--run", "true"]
        let outcome = try await Program.run(line)
        let form = name == "base64" ? "base64" : "hex"
        #expect(outcome.code == 77 && outcome.errors.contains("give --secret \(form):command:COMMAND"))
    }

    @Test func `the key of an AES image in hexadecimal is recognised, and the printed option takes the key`()
        async throws
    {
        let disk = SmallDisk(try TemporaryDirectory())
        defer { disk.directory.remove() }
        let image = try await disk.encrypted("0123456789abcdef")
        let digits = Array("0123456789abcdef".utf8).map { String($0, radix: 16) }.joined()
        let text = try disk.directory.write("text", text: digits + "\n")
        let outcome = try await Program.run(["serve", image, "--raw-key-file", text, "--run", "true"])
        #expect(
            outcome.code == 77 && outcome.errors.contains("looks like 16 bytes in hexadecimal"), "\(outcome.errors)")
        try await expectToOpen(image, printed: outcome.errors)
    }

    /// Runs the program with the option that a refusal prints.
    private func expectToOpen(_ image: String, printed: String, sourceLocation: SourceLocation = #_sourceLocation)
        async throws
    {
        let found = printed.firstMatch(of: /give (--secret '?(hex|base64):.*)/).map { String($0.1) }
        let option = try #require(found, "\(printed)", sourceLocation: sourceLocation)
        // Of a volume key, where to get the right one is said before it, and of an AES image what else may be behind it.
        let end = option.firstRange(of: "; ")?.lowerBound ?? option.endIndex
        try await Tool.shell("\(try Program.path) serve \(image) \(option[..<end]) --run true")
    }

    @Test(arguments: ["correct horse battery staple", "Tr0ub4dor&3", "aaaaaaaaaaaaaaaaaaaaaaaa"])
    func `passphrases are not taken for keys`(_ wrong: String) async throws {
        try await withContainer("right") { image, directory in
            let file = try directory.write("key", text: wrong)
            let outcome = try await Program.run(["serve", image, "--passphrase-file", file, "--run", "true"])
            #expect(outcome.code == 77 && outcome.errors.contains("check the spelling"), "\(outcome.errors)")
            #expect(!outcome.errors.contains("looks like"), "\(outcome.errors)")
        }
    }

    @Test func `the same secret by two names is tried once, and the first name is told`() async throws {
        try await withContainer("right") { image, directory in
            let file = try directory.write("key", text: "wrong")
            let outcome = try await Program.run(
                ["serve", "-v", image, "--passphrase-file", file, "--key-file", file, "--run", "true"])
            #expect(outcome.code == 77)
            #expect(outcome.errors.contains("the passphrase file \(file)") && !outcome.errors.contains("the key file"))
        }
    }

    /// Gives `body` a container that `passphrase` opens.
    private func withContainer(
        _ passphrase: String, _ body: (_ image: String, _ directory: TemporaryDirectory) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory)
        let image = try await maker.format(
            "disk.luks", type: "luks1", passphrase: passphrase, options: ["--pbkdf-force-iterations", "1000"])
        try await body(image, directory)
    }
}
