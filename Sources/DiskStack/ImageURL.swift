// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A URL where the name of an image was expected.
struct ImageURL {
    private let text: String
    private let scheme: String

    /// Nil for what does not look like one (RFC 3986, section 3.1).
    init?(_ text: String) {
        guard let colon = text.firstIndex(of: ":"), text[colon...].hasPrefix("://") else { return nil }
        let scheme = text[..<colon].lowercased()
        guard scheme.utf8.first.map({ Self.isLetter($0) }) ?? false,
            scheme.utf8.allSatisfy({ Self.isLetter($0) || "0123456789+-.".utf8.contains($0) })
        else { return nil }
        self.text = text
        self.scheme = scheme
    }

    private static func isLetter(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) }

    /// What to do instead.
    var refusal: String {
        let advice =
            switch scheme {
            case "file": "name the file by its path"
            case "nbd", "nbds", "nbd+unix", "nbds+unix", "nbd+vsock", "nbds+vsock":
                "copy the image first: nbdcopy \(ShellText.quoted(text)) image, then name that file"
            default: "copy the image to a file first, and name that"
            }
        return "\(text): this is a URL, and images are opened from files and block devices alone; \(advice)"
    }
}
