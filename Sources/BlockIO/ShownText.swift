// SPDX-License-Identifier: Apache-2.0

/// Text of an image, made fit to be shown.
public enum ShownText {
    /// The longest text that is shown if nothing else is said, in characters.
    public static let maximumLength = 96

    /// For a person's terminal: control characters are replaced, what is too long is cut.
    public static func printable(_ text: some StringProtocol, maximumLength: Int = maximumLength) -> String {
        var scalars = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            guard scalars.count < maximumLength else { return String(scalars) + "…" }
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator: scalars.append("\u{FFFD}")
            default: scalars.append(scalar)
            }
        }
        return String(scalars)
    }

    /// In quotes, for "found".
    public static func quoted(_ text: some StringProtocol) -> String { "\"\(printable(text))\"" }
}
