// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport

/// A file in memory that fails at the verbs that a test chooses, and calls the test at others.
final class ScriptedFile: GrowableDevice {
    /// What happens at which verb.
    struct Script: Sendable {
        /// Writes that begin here fail.
        var unwritablePlace: UInt64?
        /// Does a flush fail?
        var flushFails = false
        /// Called once, when the bytes of a read have been copied and not yet been given back.
        var afterRead: (@Sendable () -> Void)?
    }

    /// Holds the bytes and records writes and flushes.
    let memory: MemoryDevice
    private let state = Locked(Script())

    init(_ bytes: [UInt8]) { memory = MemoryDevice(bytes, isWritable: true) }

    var script: Script {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }

    var size: UInt64 { memory.size }
    let isWritable = true
    let alignment = 1
    let depth = 1

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try memory.read(into: &buffer, at: offset, mode)
        let hook = state.withLock { script in
            defer { script.afterRead = nil }
            return script.afterRead
        }
        hook?()
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        try memory.extent(at: offset, limit: limit, mode)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) { memory.prefetch(range, budget) }

    func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        guard script.unwritablePlace != offset else { throw .inputOutput("byte \(offset) cannot be written") }
        try memory.write(&bytes, at: offset, options)
    }

    func grow(to size: UInt64) throws(BlockError) { try memory.grow(to: size) }

    func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) { try memory.zero(range, options) }

    func discard(_ range: ByteRange) throws(BlockError) { try memory.discard(range) }

    func flush() throws(BlockError) {
        guard !script.flushFails else { throw .inputOutput("the file cannot be flushed") }
        try memory.flush()
    }
}
