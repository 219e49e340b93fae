// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import Testing

@testable import nbdecrypt

/// What is wrong with a command line before anything is opened: bytes that are no text, and names that are no files.
@Suite(.fewAtATime)
struct ArgumentTextTests {
    @Test func `an argument that is not UTF-8 is named, and the value of an option is not shown`() throws {
        func refusal(_ arguments: [[UInt8]]) -> String? { ArgumentText.refusal([Array("nbdecrypt".utf8)] + arguments) }
        func bytes(_ text: String, _ more: [UInt8] = []) -> [UInt8] { Array(text.utf8) + more }
        #expect(refusal([bytes("info"), bytes("d\u{E9}j\u{E0} \u{1F511}.qcow2"), []]) == nil)
        // The name of the program is not an argument.
        #expect(ArgumentText.refusal([[0xFF], bytes("info")]) == nil)
        for (arguments, name) in [
            (
                [bytes("info"), bytes("caf", [0xE9, 0x22, 0x0A])],
                "argument 2 (\"caf\\xE9\\x22\\x0A\") is not text in UTF-8"
            ),
            ([bytes("serve"), bytes("--secret"), bytes("hunter", [0xFF])], "argument 3, behind --secret is not text"),
            ([bytes("serve"), bytes("--header=hunter", [0xFF])], "argument 2 (--header) is not text"),
            ([bytes("serve"), bytes("--secret=hunter"), bytes("x", [0xC3])], "argument 3 (\"x\\xC3\") is not text"),
            ([bytes("", [0xC0, 0x80])], "argument 1 (\"\\xC0\\x80\") is not text"),
        ] {
            let said = try #require(refusal(arguments))
            #expect(said.hasPrefix(name) && said.contains("rename the file"), "\(said)")
            #expect(!said.contains("hunter") && !said.contains("\u{FFFD}"), "\(said)")
        }
        #expect(refusal([bytes(String(repeating: "x", count: 200), [0xFF])])?.contains("xxx…\")") == true)
    }

    @Test func `every command refuses a name in another encoding, and makes no file of another name`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let output = try await Tool.shell(
            """
            cd \(directory.path); program=\(try Program.path); truncate -s 1M $'caf\\xe9.raw' old.raw
            for arguments in "migrate -f raw old.raw NAME" "migrate -f raw NAME new.raw" "info -f raw NAME" \\
                "audit -f raw NAME" "serve -f raw NAME --run true"; do
                line=(); for word in $arguments; do line+=("${word/NAME/$'caf\\xe9.raw'}"); done
                "$program" "${line[@]}" 2>&1 || echo $?
            done
            mkdir $'dir\\xe9'; cd $'dir\\xe9'; "$program" migrate -f raw ../old.raw new.raw 2>&1 || echo $?
            cd ..; ls -b
            """)
        let lines = output.split(separator: "\n")
        #expect(lines.count(where: { $0.contains("(\"caf\\xE9.raw\") is not text in UTF-8") }) == 5, "\(output)")
        #expect(lines.count(where: { $0 == "64" }) == 6, "\(output)")
        #expect(lines.contains { $0.contains("the name of its directory is not text in UTF-8") }, "\(output)")
        #expect(lines.suffix(3) == ["caf\\351.raw", "dir\\351", "old.raw"], "\(output)")
    }

    @Test func `a dash is no name for a file that is made, and the sentence says where it would lead`() throws {
        func message<Command: ParsableArguments>(_ command: Command.Type, _ arguments: [String]) -> String {
            do {
                _ = try command.parse(arguments)
                return ""
            } catch { return command.message(for: error) }
        }
        #expect(message(AuditCommand.self, ["x", "--map", "-"]).contains("standard output has the report. Write ./-"))
        #expect(message(AuditCommand.self, ["x", "--map", ""]) == "--map takes the name of a file.")
        #expect(message(AuditCommand.self, ["x", "--map", "./-"]) == "")
        #expect(message(ServeCommand.self, ["x", "--coverage", "-"]).contains("--coverage takes the name of a file"))
        #expect(message(InfoCommand.self, ["x", "--plan", "--new", "-"]).contains("--new takes the name of a file"))
        #expect(message(MigrateCommand.self, ["x", "-"]).contains("A new image is a file"))
        // An overlay is for one command, and info looks at one layer.
        let overlay = ["--secret", "overlay=key-file:k"]
        #expect(message(MigrateCommand.self, ["x", "y"] + overlay).contains("is for --overlay-file"))
        #expect(message(InfoCommand.self, ["x", "--check-passphrase"] + overlay).contains("is for --overlay-file"))
        let pinned = ["x", "--check-passphrase", "--secret", "1=key-file:k"]
        #expect(message(InfoCommand.self, pinned).contains("which is layer 0"))
        #expect(message(InfoCommand.self, pinned + ["--plan"]) == "")
    }
}
