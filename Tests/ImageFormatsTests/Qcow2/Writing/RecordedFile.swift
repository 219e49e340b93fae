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
        var flushCount = 0
        var limit: UInt64 = .max
    }

    /// Of this file and of those beside it.
    let record: FileRecord
    private let number: Int
    private let state: Locked<State>

    /// - Parameter other: the sequence of changes is that of both.
    init(_ bytes: [UInt8], beside other: RecordedFile? = nil) {
        state = Locked(State(bytes: bytes))
        record = other?.record ?? FileRecord()
        number = record.addFile()
    }

    let isWritable = true
    let alignment = 1
    let depth = 1
    var size: UInt64 { state.withLock { UInt64($0.bytes.count) } }
    var bytes: [UInt8] { state.withLock { $0.bytes } }
    /// The changes of this file since ``FileRecord.start()``.
    var events: [Event] { record.changes.compactMap { $0.file == number ? $0.event : nil } }
    /// Reads, changes and flushes so far, of the files beside it as well.
    var callCount: Int { record.callCount }
    var flushCount: Int { state.withLock { $0.flushCount } }

    /// The file grows no further than this, in bytes.
    func setLimit(_ size: UInt64) { state.withLock { $0.limit = size } }

    private func change(_ range: ByteRange, to bytes: [UInt8]) throws(BlockError) {
        try checkBounds(range, layer: "memory")
        try record.call()
        state.withLock { $0.bytes.replaceSubrange(Int(range.offset)..<Int(range.end), with: bytes) }
        record.add(.write(offset: Int(range.offset), bytes), of: number)
    }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "memory")
        try record.call()
        let range = Int(offset)..<(Int(offset) + buffer.byteCount)
        state.withLock { $0.bytes.withBytes { buffer.copy(from: $0.extracting(range)) } }
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
        try record.call()
        state.withLock { $0.flushCount += 1 }
        record.add(.flush, of: number)
    }

    func grow(to size: UInt64) throws(BlockError) {
        guard size <= state.withLock({ $0.limit }) else { throw .noSpace("memory: full") }
        try record.call()
        guard size > self.size else { return }
        state.withLock { $0.bytes += [UInt8](repeating: 0, count: Int(size) - $0.bytes.count) }
        record.add(.grow(Int(size)), of: number)
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
