// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A document of the project, in Markdown.
struct Document {
    /// From the root of the project.
    let path: String
    let text: String

    init(_ path: String) throws {
        self.path = path
        text = try File.text("\(Program.root)/\(path)")
    }

    /// All that are there for people.
    static var all: [Document] {
        get throws {
            let names =
                FileManager.default.enumerator(atPath: "\(Program.root)/docs")?.compactMap { $0 as? String } ?? []
            let documents = names.filter { $0.hasSuffix(".md") }.map { "docs/\($0)" }
            return try (["README.md", "CONTRIBUTING.md"] + documents.sorted()).map(Document.init)
        }
    }

    /// The cells of each row of a table, trimmed.
    var rows: [[String]] {
        text.split(separator: "\n").filter { $0.hasPrefix("| ") }.map { line in
            line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
        }
    }

    /// What stands between backticks, but for blocks of code.
    var code: [String] {
        let parts = text.components(separatedBy: "\n```").enumerated().filter { $0.offset % 2 == 0 }
        return parts.flatMap { Self.code(in: $0.element) }
    }

    /// What stands between backticks.
    static func code(in text: String) -> [String] { text.matches(of: /`([^`]+)`/).map { String($0.1) } }

    /// The paths of the files that it links to.
    var links: [String] {
        let place = URL(fileURLWithPath: "\(Program.root)/\(path)").deletingLastPathComponent()
        return text.matches(of: /\]\(([^)#\s]+)(?:#[^)]*)?\)/).map { String($0.1) }
            .filter { !$0.contains("://") && !$0.hasPrefix("mailto:") }
            .map { place.appendingPathComponent($0).standardizedFileURL.path }
    }
}
