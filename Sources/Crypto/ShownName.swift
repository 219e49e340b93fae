// SPDX-License-Identifier: Apache-2.0

/// A name out of an image, in quotes, as it may appear in a message: printable ASCII, 64 characters at most.
func shownName(_ name: String) -> String {
    let shown = name.unicodeScalars.prefix(64).map { (0x20..<0x7F).contains($0.value) ? Character($0) : "?" }
    return "\"\(String(shown))\(name.unicodeScalars.count > shown.count ? "…" : "")\""
}
