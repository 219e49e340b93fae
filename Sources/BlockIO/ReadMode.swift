// SPDX-License-Identifier: Apache-2.0

/// May a read, or a look at what is stored, wait, and what may it cost?
public struct ReadMode: Sendable {
    /// May it wait for the disk, decompress, whatever it takes? Otherwise it throws ``BlockError/wouldBlock``
    /// instead of waiting or of working for long; nothing has changed then.
    public let mayWait: Bool
    private let budget: Budget?

    /// Wait for the disk, decompress, whatever it takes.
    public static var mayBlock: ReadMode { ReadMode(mayWait: true, budget: nil) }
    /// Only what is in memory.
    public static var cachedOnly: ReadMode { ReadMode(mayWait: false, budget: nil) }

    /// As ``mayBlock``, until the budget is spent: then ``BlockError/wouldBlock`` is thrown.
    public static func mayBlock(_ budget: Budget) -> ReadMode { ReadMode(mayWait: true, budget: budget) }
    /// As ``cachedOnly``, until the budget is spent: then ``BlockError/wouldBlock`` is thrown.
    public static func cachedOnly(_ budget: Budget) -> ReadMode { ReadMode(mayWait: false, budget: budget) }

    /// May the result become unwanted while somebody waits for it?
    var hasBudget: Bool { budget != nil }
    /// Is the time over, or does nobody want the result any more? For a layer that waits.
    var isSpent: Bool { budget?.isSpent ?? false }

    /// Called by a layer before each look-up of where bytes are.
    /// - Throws: ``BlockError/wouldBlock`` when the budget is spent.
    public func look() throws(BlockError) {
        guard mayLook() else { throw .wouldBlock }
    }

    /// Called before a look-up that only makes an answer longer. False: the answer ends here.
    public func mayLook() -> Bool { budget?.look() ?? true }
}
