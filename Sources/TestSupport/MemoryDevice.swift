// SPDX-License-Identifier: Apache-2.0

public import BlockIO
import Synchronization

/// A device in memory that can be told to fail, for tests and fuzz targets.
public final class MemoryDevice: BlockDevice {
    /// What the device does wrong on purpose.
    public struct Faults: Sendable {
        /// Every `cachedOnly` read says that it would block.
        public var nothingIsCached = false
        /// Reads that touch this byte fail.
        public var unreadableByte: UInt64?
        /// Called by every read that may block, before it reads: where a test makes it wait.
        public var gate: (@Sendable () -> Void)?

        /// No faults.
        public init() {}
    }

    /// The contents.
    public let bytes: [UInt8]
    /// As given to `init`.
    public let alignment: Int
    /// The number of bytes.
    public var size: UInt64 { UInt64(bytes.count) }
    private let state = Mutex((faults: Faults(), reads: 0))

    /// A device that holds `bytes` and insists on `alignment`.
    public init(_ bytes: [UInt8], alignment: Int = 1) {
        self.bytes = bytes
        self.alignment = alignment
    }

    /// What goes wrong from now on.
    public var faults: Faults {
        get { state.withLock { $0.faults } }
        set { state.withLock { $0.faults = newValue } }
    }

    /// How many reads have reached the device.
    public var readCount: Int { state.withLock { $0.reads } }

    /// Copies from `bytes`, unless a fault says otherwise.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        let faults = state.withLock { state in
            state.reads += 1
            return state.faults
        }
        try checkBounds(buffer.byteCount, at: offset, layer: "memory")
        if faults.nothingIsCached, mode == .cachedOnly { throw .wouldBlock }
        if mode == .mayBlock { faults.gate?() }
        let range = Int(offset)..<(Int(offset) + buffer.byteCount)
        if let byte = faults.unreadableByte, range.contains(Int(byte)) {
            throw .inputOutput("memory: byte \(byte) cannot be read")
        }
        bytes.withBytes { buffer.copy(from: $0.extracting(range)) }
    }

    /// All of it is data.
    public func extent(at offset: UInt64, limit: UInt64) throws(BlockError) -> Extent {
        try checkBounds(1, at: offset, layer: "memory")
        return Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }
}
