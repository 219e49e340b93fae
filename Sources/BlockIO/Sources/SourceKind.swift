// SPDX-License-Identifier: Apache-2.0

/// One kind of sources far away: which URLs are its, and how they are reached.
public struct SourceKind: Sendable {
    /// Connects to what a URL names; may wait.
    ///
    /// - Throws: ``FormatError`` with code `unreadable` or `inUse`: one sentence, without the name.
    public typealias Connect =
        @Sendable (_ url: SourceURL, _ isWritable: Bool) throws(FormatError) -> any AsyncSource

    /// Of the URLs that it takes, in small letters.
    public let schemes: [String]
    let connect: Connect

    /// - Parameter schemes: none of another kind.
    public init(schemes: [String], connect: @escaping Connect) {
        self.schemes = schemes
        self.connect = connect
    }

    /// All that there are. One more is an ``AsyncSource`` and its line here.
    public static let all: [SourceKind] = []
}
