// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// What a command has found out about an image, for people or as JSON.
protocol Report: Encodable {
    /// For people.
    var text: String { get }
}

extension Report {
    /// The report as JSON; sizes and offsets are in bytes.
    var json: String {
        get throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return String(decoding: try encoder.encode(self), as: UTF8.self)
        }
    }

    /// Lines of names and values, the values below each other.
    static func table(_ lines: [(name: String, value: String)]) -> [String] {
        let width = lines.map(\.name.count).max() ?? 0
        return lines.map { name, value in
            "\(name):\(String(repeating: " ", count: width - name.count + 1))\(value)"
        }
    }
}
