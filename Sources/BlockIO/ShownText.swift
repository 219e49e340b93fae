// SPDX-License-Identifier: Apache-2.0

/// Text that a stranger has chosen, be it in an image or on the wire, made fit to be shown.
public enum ShownText {
    /// The longest text that is shown if nothing else is said, in characters.
    public static let maximumLength = 96

    /// For a person's terminal: what is not shown is replaced, what is too long is cut.
    public static func printable(_ text: some StringProtocol, maximumLength: Int = maximumLength) -> String {
        var scalars = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            guard scalars.count < maximumLength else { return String(scalars) + "…" }
            scalars.append(scalar.isShown ? scalar : "\u{FFFD}")
        }
        return String(scalars)
    }

    /// A name that an image gives a file, a snapshot or a bitmap, of which QEMU lets none have more than 1023 bytes.
    public static func name(_ bytes: some Collection<UInt8>) -> String {
        printable(String(decoding: bytes, as: UTF8.self), maximumLength: 1023)
    }

    /// A field of fixed length that ends at its first NUL byte, if it has one.
    public static func printable(field: some Collection<UInt8>) -> String {
        printable(String(decoding: field.prefix { $0 != 0 }, as: UTF8.self))
    }

    /// A name in quotes, on one line, with `\u{…}` for what is not shown; what is too long is cut.
    public static func quoted(_ text: some StringProtocol) -> String {
        var shown = "\""
        for (index, scalar) in text.unicodeScalars.enumerated() {
            guard index < maximumLength else {
                shown += "…"
                break
            }
            switch scalar {
            case "\"", "\\": shown += "\\\(scalar)"
            case _ where scalar.isShown: shown.unicodeScalars.append(scalar)
            default: shown += "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
            }
        }
        return shown + "\""
    }
}

extension Unicode.Scalar {
    /// May it appear on a person's terminal and in the journal as it is? What ends a line, what a terminal would obey, what
    /// changes the order of the text around it, and what has no shape does not.
    public var isShown: Bool {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned: false
        default: true
        }
    }
}
