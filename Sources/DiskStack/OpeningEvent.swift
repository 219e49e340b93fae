// SPDX-License-Identifier: Apache-2.0

public import BlockIO

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
    public let sentence: Sentence
    /// The sentence, with remedies by the names that programs see.
    public var text: String { sentence.description }
}

/// Tells of events, on whichever thread they happen.
package struct OpeningLog: Sendable {
    private let report: @Sendable (OpeningEvent) -> Void

    /// - Parameter report: is called on any thread.
    package init(_ report: @escaping @Sendable (OpeningEvent) -> Void) { self.report = report }

    /// A detail of how it is done.
    func debug(_ sentence: Sentence) { report(OpeningEvent(kind: .detail, sentence: sentence)) }

    /// What was found out.
    func info(_ sentence: Sentence) { report(OpeningEvent(kind: .finding, sentence: sentence)) }

    /// What is opened, or what somebody waits for.
    func notice(_ sentence: Sentence) { report(OpeningEvent(kind: .notice, sentence: sentence)) }

    /// What may be a mistake, or a risk.
    func warning(_ sentence: Sentence) { report(OpeningEvent(kind: .warning, sentence: sentence)) }

    /// A secret that does not fit.
    func error(_ sentence: Sentence) { report(OpeningEvent(kind: .wrongSecret, sentence: sentence)) }
}
