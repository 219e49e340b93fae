// SPDX-License-Identifier: Apache-2.0

public import BlockIO
import Synchronization

/// A device in memory that can be told to fail, to be short or to wait, for tests and fuzz targets.
public final class MemoryDevice: GrowableDevice {
    /// What the device does wrong on purpose.
    public struct Faults: Sendable {
        /// Every `cachedOnly` read says that it would block.
        public var nothingIsCached = false
        /// Reads that touch this byte fail.
        public var unreadableByte: UInt64?
        /// Every change fails with this.
        public var changeFailure: BlockError?
        /// Every flush fails with this.
        public var flushFailure: BlockError?
        /// Called by every flush, before it does anything: where a test makes it wait.
        public var flushGate: (@Sendable () -> Void)?
        /// It grows no further than this, in bytes.
        public var maximumSize: UInt64 = .max
        /// Nothing makes zeros faster than a write.
        public var hasNoFastZeros = false
        /// Called by every read and every look at extents that may block, before it does anything: where a test makes it
        /// wait, or counts.
        public var gate: (@Sendable () -> Void)?

        /// No faults.
        public init() {}
    }

    /// A call that changes the device, or asks it to prefetch or flush.
    public enum Call: Equatable, Sendable {
        case write(offset: UInt64, count: Int, WriteOptions = [])
        case grow(UInt64)
        case zero(ByteRange, ZeroOptions)
        case discard(ByteRange)
        case prefetch(ByteRange)
        case flush
    }

    private struct State {
        /// What has been stored; zeros are behind it.
        var bytes: [UInt8]
        var size: UInt64
        var faults = Faults()
        var reads = 0
        var calls: [Call] = []
    }

    /// As given to `init`.
    public let isWritable: Bool
    /// As given to `init`.
    public let alignment: Int
    /// The number of bytes.
    public var size: UInt64 { state.withLock { $0.size } }
    /// As a file.
    public let depth = 8
    private let extents: [Extent]
    private let state: Mutex<State>

    /// A device that holds `bytes` and insists on `alignment`.
    ///
    /// - Parameter extents: what the device says of its bytes, in order; what they leave out is data.
    public init(_ bytes: [UInt8], alignment: Int = 1, isWritable: Bool = false, extents: [Extent] = []) {
        self.alignment = alignment
        self.isWritable = isWritable
        self.extents = extents
        self.state = Mutex(State(bytes: bytes, size: UInt64(bytes.count)))
    }

    /// The contents.
    public var bytes: [UInt8] {
        state.withLock { state in
            let missing = Int(state.size) - state.bytes.count
            return missing == 0 ? state.bytes : state.bytes + [UInt8](repeating: 0, count: missing)
        }
    }

    /// What has been asked of the device, but for reads and extents.
    public var calls: [Call] { state.withLock { $0.calls } }

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
        if faults.nothingIsCached, !mode.mayWait { throw .wouldBlock }
        if mode.mayWait { faults.gate?() }
        let range = Int(offset)..<(Int(offset) + buffer.byteCount)
        if let byte = faults.unreadableByte, range.contains(Int(byte)) {
            throw .inputOutput("memory: byte \(byte) cannot be read")
        }
        state.withLock { state in
            let stored = range.clamped(to: 0..<state.bytes.count)
            if stored.count < range.count { buffer.clear() }
            state.bytes.withBytes { buffer.copy(from: $0.extracting(stored)) }
        }
    }

    /// As given to `init`.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("memory: there is no byte \(offset)") }
        let faults = faults
        guard mode.mayWait || !faults.nothingIsCached else { throw .wouldBlock }
        if mode.mayWait { faults.gate?() }
        if let byte = faults.unreadableByte, byte == offset {
            throw .inputOutput("memory: byte \(byte) cannot be examined")
        }
        let end = offset + min(limit, size - offset)
        for extent in extents where extent.offset + extent.length > offset {
            if extent.offset > offset {
                return Extent(offset: offset, length: min(end, extent.offset) - offset, kind: .data)
            }
            let length = min(end, extent.offset + extent.length) - offset
            return Extent(offset: offset, length: length, kind: extent.kind, depth: extent.depth)
        }
        return Extent(offset: offset, length: end - offset, kind: .data)
    }

    /// Only recorded.
    public func prefetch(_ range: ByteRange, _ budget: Budget) { record(.prefetch(range)) }

    /// Replaces bytes. Those that were given are noise afterwards, which nobody may rely on.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        guard let range = ByteRange(offset: offset, length: UInt64(bytes.byteCount)) else { throw .readOnly }
        try change(range, .write(offset: offset, count: bytes.byteCount, options)) { $0.copy(from: bytes.bytes) }
        Self.spoil(&bytes)
    }

    /// Adds zeros at the end.
    public func grow(to size: UInt64) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        let faults = faults
        if let failure = faults.changeFailure { throw failure }
        guard size <= faults.maximumSize else { throw .noSpace("memory: no more than \(faults.maximumSize) bytes") }
        state.withLock { state in
            state.calls.append(.grow(size))
            state.size = max(state.size, size)
        }
    }

    /// Replaces bytes with zeros.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        if faults.hasNoFastZeros, options.contains(.fastOnly) { throw .notSupported }
        try change(range, .zero(range, options)) { $0.clear() }
    }

    /// Fills the range with noise, which nobody may rely on.
    public func discard(_ range: ByteRange) throws(BlockError) {
        try change(range, .discard(range)) { Self.spoil(&$0) }
    }

    private static func spoil(_ bytes: inout MutableRawSpan) {
        // Many at once: in builds for fuzzing, every step is counted.
        let whole = bytes.byteCount / 64 * 64
        for offset in stride(from: 0, to: whole, by: 64) {
            bytes.storeBytes(of: SIMD64(repeating: 0xD5), toByteOffset: offset, as: SIMD64<UInt8>.self)
        }
        for offset in whole..<bytes.byteCount { bytes.storeBytes(of: 0xD5, toByteOffset: offset, as: UInt8.self) }
    }

    /// Only recorded.
    public func flush() throws(BlockError) {
        let faults = faults
        faults.flushGate?()
        if let failure = faults.changeFailure ?? faults.flushFailure { throw failure }
        record(.flush)
    }

    private func record(_ call: Call) { state.withLock { $0.calls.append(call) } }

    private func change(
        _ range: ByteRange, _ call: Call, _ body: (inout MutableRawSpan) -> Void
    ) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "memory")
        if let failure = faults.changeFailure { throw failure }
        state.withLock { state in
            state.calls.append(call)
            let missing = Int(range.end) - state.bytes.count
            if missing > 0 { state.bytes += [UInt8](repeating: 0, count: missing) }
            state.bytes.withMutableBytes { bytes in
                bytes.withSlice(Int(range.offset)..<Int(range.end)) { body(&$0) }
            }
        }
    }
}
