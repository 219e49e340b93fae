// SPDX-License-Identifier: Apache-2.0

/// Something that whoever opens an image may want to know meanwhile. It is opened all the same.
public struct OpeningEvent: Sendable {
    /// How much it matters.
    public enum Kind: Sendable {
        /// A detail of how it is done.
        case detail
        /// What was found out.
        case finding
        /// What is opened, or what somebody waits for.
        case notice
        /// What may be a mistake, or a risk.
        case warning
        /// A secret that does not fit, when another may be given.
        case wrongSecret
    }

    /// How much it matters.
    public let kind: Kind
    /// One sentence, for people.
    public let text: String
}

/// Tells of events, on whichever thread they happen.
package struct OpeningLog: Sendable {
    private let report: @Sendable (OpeningEvent) -> Void

    /// - Parameter report: is called on any thread.
    package init(_ report: @escaping @Sendable (OpeningEvent) -> Void) { self.report = report }

    /// A detail of how it is done.
    func debug(_ text: String) { report(OpeningEvent(kind: .detail, text: text)) }

    /// What was found out.
    func info(_ text: String) { report(OpeningEvent(kind: .finding, text: text)) }

    /// What is opened, or what somebody waits for.
    func notice(_ text: String) { report(OpeningEvent(kind: .notice, text: text)) }

    /// What may be a mistake, or a risk.
    func warning(_ text: String) { report(OpeningEvent(kind: .warning, text: text)) }

    /// A secret that does not fit.
    func error(_ text: String) { report(OpeningEvent(kind: .wrongSecret, text: text)) }
}
