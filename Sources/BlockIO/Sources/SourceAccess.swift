// SPDX-License-Identifier: Apache-2.0

/// What is wanted of a source that is opened.
public struct SourceAccess: Sendable {
    /// Keep others from writing to it meanwhile, as ``FileDevice`` does.
    public var excludesWriters: Bool
    /// Open it for writing as well.
    public var isWritable: Bool
    /// Write to it even where nothing keeps others away.
    public var allowsUnlocked: Bool

    /// To read, and keep writers away, where nothing else is said.
    public init(excludesWriters: Bool = true, isWritable: Bool = false, allowsUnlocked: Bool = false) {
        self.excludesWriters = excludesWriters
        self.isWritable = isWritable
        self.allowsUnlocked = allowsUnlocked
    }
}
