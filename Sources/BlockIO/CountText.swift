// SPDX-License-Identifier: Apache-2.0

/// Numbers of things, for sentences.
package enum CountText {
    /// E.g. "1 partition" or "2 partitions".
    ///
    /// - Parameter noun: of one of them; its plural has an s.
    package static func of(_ count: some BinaryInteger, _ noun: String) -> String {
        "\(count) \(noun)\(count == 1 ? "" : "s")"
    }
}
