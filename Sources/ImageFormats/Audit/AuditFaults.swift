// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// One thing in an image that cannot be right.
public struct AuditFault: Equatable, Sendable, SentenceConvertible {
    /// What sort of thing.
    public enum Kind: String, Sendable, CaseIterable {
        /// The system could not read a table.
        case unreadable
        /// A header contradicts itself.
        case header
        /// A place beyond the end of the file.
        case outsideFile
        /// A place that is not the start of a cluster.
        case misaligned
        /// An entry that the format does not allow.
        case invalidEntry
        /// A cluster of metadata that something else uses, too.
        case overlap
        /// An L2 table that one L1 table uses twice.
        case usedTwice
        /// A table that leads to itself.
        case loop
        /// A cluster with more users than its reference count says: writing to it for one changes the others.
        case refcountTooLow
        /// The flag "used once" of an entry contradicts the reference count.
        case copiedFlag
    }

    /// What sort of fault.
    public let kind: Kind
    /// Where in the file, in bytes; nil when there is no one place.
    public let offset: UInt64?
    /// One sentence. Holds no guest data.
    public let sentence: Sentence

    /// A fault at a byte of the file.
    public init(_ kind: Kind, at offset: UInt64?, _ sentence: Sentence) {
        self.kind = kind
        self.offset = offset
        self.sentence = sentence
    }
}

/// The faults of an image: the first of them in full, all of them counted.
public struct AuditFaults: Equatable, Sendable {
    /// How many are kept in full.
    public static let maximumListed = 100

    /// The first faults, in the order in which they were found.
    public private(set) var listed: [AuditFault] = []
    /// How many there are of each kind, the listed ones among them.
    public private(set) var counts: [AuditFault.Kind: UInt64] = [:]
    /// How many there are.
    public var total: UInt64 { counts.values.reduce(0, +) }

    /// None yet.
    public init() {}

    /// Counts a fault, or `count` of them of which the sentence tells the first; it is made only when it is kept.
    public mutating func note(
        _ kind: AuditFault.Kind, at offset: UInt64?, count: UInt64 = 1, _ sentence: @autoclosure () -> Sentence
    ) {
        counts[kind, default: 0] += count
        guard listed.count < Self.maximumListed else { return }
        listed.append(AuditFault(kind, at: offset, sentence()))
    }
}
