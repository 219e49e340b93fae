// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A file in memory that keeps the sequence of its changes, and fails once where a test wants it.
final class RecordedFile: GrowableDevice {
    /// What has been done to the file.
    enum Event {
        case write(offset: Int, [UInt8])
        case grow(Int)
        case flush
    }

    private struct State {
        var bytes: [UInt8]
        var events: [Event] = []
        var isRecording = false
        var callCount = 0
        var flushCount = 0
        var failure: (call: Int, error: BlockError)?
        var limit: UInt64 = .max
    }

    private let state: Locked<State>

    init(_ bytes: [UInt8]) { state = Locked(State(bytes: bytes)) }

    let isWritable = true
    let alignment = 1
    let depth = 1
    var size: UInt64 { state.withLock { UInt64($0.bytes.count) } }
    var bytes: [UInt8] { state.withLock { $0.bytes } }
    /// The changes since ``record()``.
    var events: [Event] { state.withLock { $0.events } }
    /// Reads, changes and flushes so far.
    var callCount: Int { state.withLock { $0.callCount } }
    var flushCount: Int { state.withLock { $0.flushCount } }

    /// Keeps the changes from now on.
    func record() { state.withLock { $0.isRecording = true } }

    /// The call with this number fails, and does nothing.
    func fail(call: Int, _ error: BlockError) { state.withLock { $0.failure = (call, error) } }

    /// The file grows no further than this, in bytes.
    func setLimit(_ size: UInt64) { state.withLock { $0.limit = size } }

    private func call(_ body: (inout State) -> Void) throws(BlockError) {
        let failure: BlockError? = state.withLock { state in
            state.callCount += 1
            if let failure = state.failure, failure.call == state.callCount { return failure.error }
            body(&state)
            return nil
        }
        if let failure { throw failure }
    }

    private func change(_ range: ByteRange, to bytes: [UInt8]) throws(BlockError) {
        try checkBounds(range, layer: "memory")
        try call { state in
            state.bytes.replaceSubrange(Int(range.offset)..<Int(range.end), with: bytes)
            if state.isRecording { state.events.append(.write(offset: Int(range.offset), bytes)) }
        }
    }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "memory")
        var bytes: [UInt8] = []
        let range = Int(offset)..<(Int(offset) + buffer.byteCount)
        try call { bytes = Array($0.bytes[range]) }
        bytes.withBytes { buffer.copy(from: $0) }
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) {}

    func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        guard let range = ByteRange(offset: offset, length: UInt64(bytes.byteCount)) else { throw .readOnly }
        try change(range, to: Array(copying: bytes.bytes))
        // What was given is nobody's to rely on.
        bytes.clear()
    }

    func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        try change(range, to: [UInt8](repeating: 0, count: Int(range.length)))
    }

    /// What is given up becomes noise.
    func discard(_ range: ByteRange) throws(BlockError) {
        try change(range, to: [UInt8](repeating: 0xD5, count: Int(range.length)))
    }

    func flush() throws(BlockError) {
        try call { state in
            state.flushCount += 1
            if state.isRecording { state.events.append(.flush) }
        }
    }

    func grow(to size: UInt64) throws(BlockError) {
        guard size <= state.withLock({ $0.limit }) else { throw .noSpace("memory: full") }
        try call { state in
            guard size > state.bytes.count else { return }
            state.bytes += [UInt8](repeating: 0, count: Int(size) - state.bytes.count)
            if state.isRecording { state.events.append(.grow(Int(size))) }
        }
    }
}

extension RecordedFile.Event {
    /// Does it to the contents of another file; sectors of 512 bytes that `isKept` refuses are not written.
    func apply(to bytes: inout [UInt8], keeping isKept: () -> Bool = { true }) {
        switch self {
        case .flush: break
        case .grow(let size):
            if bytes.count < size { bytes += [UInt8](repeating: 0, count: size - bytes.count) }
        case .write(let offset, let data):
            // What was written behind the end has made the file longer.
            if bytes.count < offset + data.count {
                bytes += [UInt8](repeating: 0, count: offset + data.count - bytes.count)
            }
            var start = 0
            while start < data.count {
                let end = min(data.count, start + 512 - (offset + start) % 512)
                if isKept() { bytes.replaceSubrange(offset + start..<offset + end, with: data[start..<end]) }
                start = end
            }
        }
    }
}
