// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What the documents say is so.
@Suite(.fewAtATime)
struct DocumentationTests {
    private static let readme = try? DocumentationText("README.md")
    private static let manual = try? DocumentationText("docs/nbdecrypt.1")
    private static var examples: [DocumentationText.Example] {
        (readme?.examples ?? []) + (manual?.manualExamples ?? [])
    }

    /// A command ends with status 0, unless the next one prints the status.
    @Test(arguments: examples)
    func `commands in the README and the man page do what they are said to do`(_ example: DocumentationText.Example)
        async throws
    {
        try await withImage { image in
            let results = try await run(example.steps.map(\.command), image)
            for (index, step) in example.steps.enumerated() {
                let (output, status) = results[index]
                let isStatusShown = index + 1 < example.steps.count && example.steps[index + 1].command == "echo $?"
                #expect(status == 0 || isStatusShown, "\(step.command): \(output)")
                if let expected = step.output {
                    #expect(
                        DocumentationPattern(expected).matches(output.trimmingCharacters(in: .newlines)),
                        "\(step.command) printed: \(output)")
                }
            }
        }
    }

    @Test func `the README and the man page have examples to test`() throws {
        #expect(try DocumentationText("README.md").examples.count >= 3)
        #expect(try DocumentationText("docs/nbdecrypt.1").manualExamples.count >= 3)
    }

    @Test func `the README shows what serve prints`() async throws {
        let readme = try DocumentationText("README.md")
        let block = try #require(readme.blocks("test: what serve prints").first).contents
        try await withImage { image in
            let arguments = ["serve", "old.qcow2", "--passphrase-file", "passphrase.txt"]
            // The program itself is started by a shell that is in the image's directory.
            let script = try image.directory.write(
                "start.sh", text: "cd \(image.directory.path); exec \(try Program.path) \"$@\"\n")
            try await ServerUnderTest.run(
                [script] + arguments, program: "/bin/sh", in: image.directory
            ) { server in
                let directory = try #require(block.joined().firstMatch(of: /socket=(\S+)\/nbd\.sock/)).1
                let text = block.dropFirst(2).joined(separator: "\n").replacing(directory, with: "…")
                #expect(DocumentationPattern(text + "\n").matches(server.instructions), "\(server.instructions)")
                #expect(block[0] == "Passphrase for old.qcow2:")
                let errors = try server.errors
                #expect(errors == block[1] + "\n")
            }
        }
    }

    @Test(arguments: [
        ("nbdecrypt serve", ["serve", "--help"]), ("nbdecrypt info", ["info", "--help"]),
        ("nbdecrypt audit", ["audit", "--help"]), ("nbdecrypt migrate", ["migrate", "--help"]),
    ])
    func `the man page has exactly the options that --help has`(_ subsection: String, _ arguments: [String])
        async throws
    {
        let help = try await Tool.succeed(try Program.path, arguments)
        // Lines like "  -k, --socket <path>     Listen on …".
        let helped = help.matches(of: /(?m)^ +(?:(-[a-z]), )?(--[a-z-]+)/).map { match in
            match.1.map { "\($0) \(match.2)" } ?? String(match.2)
        }
        let common: Set = ["--version", "-h --help"]
        let manual = try DocumentationText("docs/nbdecrypt.1")
        #expect(manual.manualOptions(under: subsection) == Set(helped).subtracting(common))
        #expect(manual.manualOptions(under: "nbdecrypt") == common)
    }

    @Test func `the README, the man page and --help have the same exit statuses`() async throws {
        let help = try await Tool.succeed(try Program.path, ["--help"])
        let sentence = try #require(help.firstRange(of: "Exit status:"))
        let statuses = help[sentence.upperBound...].prefix { $0 != "." }.matches(of: /\b(\d+)\b/).compactMap {
            Int($0.1)
        }
        #expect(try DocumentationText("README.md").tableNumbers(under: "## Exit status") == statuses)
        #expect(try DocumentationText("docs/nbdecrypt.1").manualNumbers(under: "EXIT STATUS") == statuses)
    }

    @Test func `mandoc finds no fault with the man page`() async throws {
        let outcome = try await Tool.run("mandoc", ["-Tlint", "-W", "warning", "\(Program.root)/docs/nbdecrypt.1"])
        #expect(outcome.code == 0 && outcome.output.isEmpty, "\(outcome.output)")
    }

    @Test func `links between the documents lead somewhere`() async throws {
        let found = try await Tool.shell("cd \(Program.root); ls *.md; find docs -name '*.md'")
        for name in found.split(separator: "\n").map(String.init) {
            let directory = URL(fileURLWithPath: "\(Program.root)/\(name)").deletingLastPathComponent()
            for link in try DocumentationText(name).linkedFiles {
                let target = directory.appendingPathComponent(link).path
                #expect(File.exists(target), "\(name) links to \(link)")
            }
        }
    }

    /// Runs commands one after the other in one shell, in the directory of the image, with the program on PATH.
    private func run(
        _ commands: [String], _ image: ExamplesImage
    ) async throws -> [(output: String, status: Int32)] {
        let tools = image.directory.file("bin")
        try FileManager.default.createDirectory(atPath: tools, withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            atPath: "\(tools)/nbdecrypt", withDestinationPath: try Program.path)
        // After each command its status, between two characters that no command prints.
        let mark = "\u{1E}"
        let steps = commands.map { "\($0)\nstatus=$?; printf '\(mark)%s\(mark)' $status; (exit $status)" }
        let script = "cd \(image.directory.path); PATH=\(tools):$PATH; exec 2>&1\n" + steps.joined(separator: "\n")
        let outcome = try await Tool.run("/bin/bash", ["-c", script], seconds: 300)
        let parts = outcome.output.components(separatedBy: mark)
        try #require(parts.count == 2 * commands.count + 1, "\(outcome.output)")
        return commands.indices.map { (parts[2 * $0], Int32(parts[2 * $0 + 1]) ?? -1) }
    }

    private func withImage(_ body: (ExamplesImage) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ExamplesImage(directory)
        try await image.addContainer()
        try await body(image)
    }
}
