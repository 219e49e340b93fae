// SPDX-License-Identifier: Apache-2.0

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

/// A name that a stranger has chosen, be it in an image or on the wire, as it may appear in a message: in quotes, on one line,
/// with `\u{…}` for what is not shown, cut after 64 characters.
public func shownName(_ name: some StringProtocol) -> String {
    var shown = "\""
    for (index, scalar) in name.unicodeScalars.enumerated() {
        guard index < 64 else {
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

/// Text of an image, made fit to be shown.
public enum ShownText {
    /// The longest text that is shown if nothing else is said, in characters.
    public static let maximumLength = 96

    /// For a person's terminal: control characters are replaced, what is too long is cut.
    public static func printable(_ text: some StringProtocol, maximumLength: Int = maximumLength) -> String {
        var scalars = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            guard scalars.count < maximumLength else { return String(scalars) + "…" }
            scalars.append(scalar.isShown ? scalar : "\u{FFFD}")
        }
        return String(scalars)
    }

    /// In quotes, for "found".
    public static func quoted(_ text: some StringProtocol) -> String { "\"\(printable(text))\"" }
}
