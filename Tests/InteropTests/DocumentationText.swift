// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// A document of the project and what tests want to know of it.
struct DocumentationText {
    /// Commands of a document, and what they are said to print.
    struct Example: Sendable, CustomTestStringConvertible {
        /// Where it is, for messages.
        let place: String
        let steps: [Step]

        var testDescription: String { place }
    }

    /// A command and its output.
    struct Step: Sendable {
        var command: String
        /// Nil when the document does not say. Every "…" stands for any text.
        var output: String?
    }

    let name: String
    private let lines: [String]

    /// - Parameter name: relative to the root of the package.
    init(_ name: String) throws {
        self.name = name
        lines = try File.text("\(Program.root)/\(name)").components(separatedBy: "\n")
    }

    // MARK: Markdown

    /// The contents of the fenced blocks that follow a comment `<!-- NOTE -->`, and the language of each.
    func blocks(_ note: String) -> [(language: String, line: Int, contents: [String])] {
        lines.indices.filter { lines[$0] == "<!-- \(note) -->" }.compactMap { index in
            guard index + 1 < lines.count, lines[index + 1].hasPrefix("```") else { return nil }
            let contents = lines[(index + 2)...].prefix { $0 != "```" }
            return (String(lines[index + 1].dropFirst(3)), index + 2, Array(contents))
        }
    }

    /// What the blocks marked with `<!-- test -->` say: `sh` is a script, `console` has commands after "$ " and output.
    var examples: [Example] {
        blocks("test").map { block in
            let place = "\(name), line \(block.line)"
            if block.language == "console" { return Example(place: place, steps: Self.steps(block.contents)) }
            return Example(place: place, steps: [Step(command: block.contents.joined(separator: "\n"))])
        }
    }

    /// The targets of links to files.
    var linkedFiles: [String] {
        lines.flatMap { line in line.matches(of: /\]\(([^)#:]+)(#[^)]*)?\)/).map { String($0.1) } }
    }

    /// Numbers in the first column of the table under a heading.
    func tableNumbers(under heading: String) -> [Int] {
        section(from: { $0 == heading }, to: { $0.hasPrefix("#") }).compactMap { line in
            line.firstMatch(of: /^\| (\d+) \|/).flatMap { Int($0.1) }
        }
    }

    // MARK: mdoc

    /// What the blocks marked with the comment `test` say.
    var manualExamples: [Example] {
        lines.indices.filter { lines[$0] == #".\" test"# }.map { index in
            let contents = lines[(index + 2)...].prefix { $0 != ".Ed" }.map { $0.replacing(#"\e"#, with: #"\"#) }
            return Example(place: "\(name), line \(index + 1)", steps: Self.steps(contents))
        }
    }

    /// The options of a subsection, as in "-k --socket" and "--once".
    func manualOptions(under subsection: String) -> Set<String> {
        let items = section(from: { $0 == ".Ss \(subsection)" }, to: { $0.hasPrefix(".Ss ") || $0.hasPrefix(".Sh ") })
            .filter { $0.hasPrefix(".It Fl ") }
        return Set(
            items.flatMap { item in
                // "-k --socket" is one option, "--header" followed by "--key-slot" are two.
                item.matches(of: /(?:Fl ([a-z])\b[^,]*, )?Fl -([a-z-]+)/).map { match in
                    match.1.map { "-\($0) --\(match.2)" } ?? "--\(match.2)"
                }
            })
    }

    /// Items of a section that are numbers.
    func manualNumbers(under heading: String) -> [Int] {
        section(from: { $0 == ".Sh \(heading)" }, to: { $0.hasPrefix(".Sh ") }).compactMap { line in
            line.hasPrefix(".It ") ? Int(line.dropFirst(4)) : nil
        }
    }

    // MARK: Both

    private func section(from isStart: (String) -> Bool, to isEnd: (String) -> Bool) -> ArraySlice<String> {
        guard let start = lines.firstIndex(where: isStart) else { return [] }
        return lines[(start + 1)...].prefix { !isEnd($0) }
    }

    /// Splits a transcript. A command goes on after a line that ends with a backslash or a pipe.
    private static func steps(_ transcript: [String]) -> [Step] {
        var steps: [Step] = []
        var isContinued = false
        for line in transcript {
            if line.hasPrefix("$ ") {
                steps.append(Step(command: String(line.dropFirst(2))))
            } else if let last = steps.indices.last {
                if isContinued {
                    steps[last].command += "\n\(line)"
                } else {
                    steps[last].output = (steps[last].output.map { "\($0)\n" } ?? "") + line
                }
            }
            isContinued = (line.hasPrefix("$ ") || isContinued) && (line.hasSuffix("\\") || line.hasSuffix("|"))
        }
        return steps
    }
}

/// Text in which every "…" stands for any text.
struct DocumentationPattern {
    private let parts: [Substring]

    init(_ text: String) { parts = text.split(separator: "…", omittingEmptySubsequences: false) }

    func matches(_ text: String) -> Bool {
        guard let first = parts.first, text.hasPrefix(first) else { return false }
        guard parts.count > 1, let last = parts.last else { return text == first }
        var rest = text.dropFirst(first.count)
        for part in parts.dropFirst().dropLast() where !part.isEmpty {
            guard let found = rest.firstRange(of: part) else { return false }
            rest = rest[found.upperBound...]
        }
        return rest.hasSuffix(last)
    }
}
