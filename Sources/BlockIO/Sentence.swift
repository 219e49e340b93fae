// SPDX-License-Identifier: Apache-2.0

/// What a person is told: text, and between it what that person can set, as values that each program words itself.
///
/// It is written as a string: `"another program writes to it; stop it, or add \(remedy: .shareWithWriters)"`. Sentences in
/// sentences stay what they are, until a program says ``worded(_:)`` of the whole.
public struct Sentence: Hashable, Sendable {
    private enum Part: Hashable, Sendable {
        case text(String)
        case remedy(Remedy)
    }

    private var parts: [Part]

    private init(_ parts: [Part]) { self.parts = parts }

    /// Text alone.
    public init(_ text: String) { parts = text.isEmpty ? [] : [.text(text)] }

    /// Nothing is said.
    public var isEmpty: Bool { parts.isEmpty }

    /// What it advises or refers to, in order.
    public var remedies: [Remedy] {
        parts.compactMap { if case .remedy(let remedy) = $0 { remedy } else { nil } }
    }

    /// The text, with each remedy as `words` says it.
    public func worded(_ words: (Remedy) -> String) -> String {
        parts.map { part in
            switch part {
            case .text(let text): text
            case .remedy(let remedy): words(remedy)
            }
        }.joined()
    }

    /// The same, with something else to set in place of `remedy`.
    public func replacing(_ remedy: Remedy, with other: Remedy) -> Sentence {
        Sentence(parts.map { $0 == .remedy(remedy) ? .remedy(other) : $0 })
    }

    /// One behind the other.
    public static func + (first: Sentence, second: Sentence) -> Sentence {
        var sum = first
        sum.append(second)
        return sum
    }

    private mutating func append(_ other: Sentence) { other.parts.forEach { append($0) } }

    /// Text next to text becomes one, so that sentences that say the same are equal.
    private mutating func append(_ part: Part) {
        if case .text(let text) = part, case .text(let before)? = parts.last {
            parts[parts.count - 1] = .text(before + text)
        } else {
            parts.append(part)
        }
    }
}

/// What a sentence says of, such as an error.
public protocol SentenceConvertible: CustomStringConvertible {
    /// What a person is told.
    var sentence: Sentence { get }
}

extension SentenceConvertible {
    /// The sentence, with remedies by the names that programs see.
    public var description: String { sentence.worded(\.description) }
}

extension Sentence: SentenceConvertible {
    /// Itself.
    public var sentence: Sentence { self }
}

extension Sentence: ExpressibleByStringInterpolation {
    /// Text alone.
    public init(stringLiteral text: String) { self.init(text) }

    /// Takes over what was put together.
    public init(stringInterpolation parts: StringInterpolation) { self = parts.sentence }

    /// Puts a sentence together.
    public struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var sentence = Sentence("")

        /// Nothing is said yet.
        public init(literalCapacity: Int, interpolationCount: Int) {}

        /// Appends text.
        public mutating func appendLiteral(_ text: String) { sentence.append(Sentence(text)) }

        /// Appends any value as text, and what has a sentence with its remedies as they are.
        public mutating func appendInterpolation(_ value: some Any) {
            sentence.append((value as? any SentenceConvertible)?.sentence ?? Sentence(String(describing: value)))
        }

        /// Appends something that a person can set.
        public mutating func appendInterpolation(remedy: Remedy) { sentence.append(.remedy(remedy)) }
    }
}

extension [Sentence] {
    /// All of them in one, with a separator between them.
    public func joined(separator: Sentence = "") -> Sentence {
        guard let first else { return "" }
        return dropFirst().reduce(first) { $0 + separator + $1 }
    }
}
