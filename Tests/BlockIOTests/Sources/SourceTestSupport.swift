// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Foundation
import Synchronization
import TestSupport
import Testing

/// Bytes that look random and are the same in every run.
func sourceNoise(_ count: Int) -> [UInt8] {
    var generator = SeededGenerator(seed: 7)
    var bytes = [UInt8](repeating: 0, count: count + 8)
    bytes.withMutableBytes { bytes in
        for offset in stride(from: 0, to: count, by: 8) {
            bytes.storeBytes(of: generator.next(), toByteOffset: offset, as: UInt64.self)
        }
    }
    return Array(bytes[..<count])
}

/// A device of any size that holds no memory: each page of 4 KiB begins with its number, counted from 1.
final class NumberedPages: ReadOnlyDevice {
    let size: UInt64
    let alignment = 4096
    let depth = 8

    init(size: UInt64) { self.size = size }

    static func page(at offset: UInt64) -> UInt64 { offset / 4096 + 1 }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "pages")
        buffer.clear()
        for start in stride(from: 0, to: buffer.byteCount, by: 4096) {
            buffer.storeBytes(of: Self.page(at: offset + UInt64(start)), toByteOffset: start, as: UInt64.self)
        }
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) {}
}

extension BlockDevice {
    /// The number that a page of ``NumberedPages`` begins with.
    func page(at offset: UInt64) throws(BlockError) -> UInt64 {
        try read(count: 4096, at: offset).withBytes { $0.littleEndianWord(at: 0) }
    }
}

/// Runs `body` on so many threads, all of which take part in the time of `clock`; returns when they have ended.
func onThreads(_ count: Int, _ clock: VirtualClock, _ body: @escaping @Sendable (Int) throws -> Void) {
    clock.takePart(count)
    let end = DispatchGroup()
    for number in 0..<count {
        end.enter()
        Thread.detachNewThread {
            do { try body(number) } catch { Issue.record(error) }
            clock.leave()
            end.leave()
        }
    }
    end.wait()
    clock.takePart(1)
}

/// A source that keeps its requests until the test answers them.
final class KeepingSource: AsyncSource {
    let size: UInt64 = 1 << 20
    let alignment = 1
    let isWritable = true
    let tellsExtents = false
    let depth: Int
    let identity = SourceIdentity.remote(place: "keeping", version: "")
    private let kept = Mutex<[SourceRequest]>([])

    init(depth: Int = 8) { self.depth = depth }

    func begin(_ request: SourceRequest) { kept.withLock { $0.append(request) } }

    /// Those that have come so far.
    var requests: [SourceRequest] { kept.withLock { $0 } }

    /// Waits until so many have come.
    func wait(for count: Int) -> [SourceRequest] {
        while requests.count < count { sched_yield() }
        return requests
    }

    /// Holds them no more.
    func forget() { kept.withLock { $0 = [] } }
}

extension SourceRequest {
    /// Answers with memory full of one byte.
    func complete(filling byte: UInt8) {
        memory.withMutableBytes { memory in
            for index in 0..<memory.byteCount { memory.storeBytes(of: byte, toByteOffset: index, as: UInt8.self) }
        }
        complete()
    }
}
