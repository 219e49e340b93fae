// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import SystemPackage

/// Text on its way to a descriptor whose reader may be slow, or not read at all: a thread of its own writes it, in order,
/// and nobody else waits for that.
///
/// What waits is bounded. Lines that find no room are left out, counted, and told of behind those that did.
final class LineQueue: Sendable {
    /// What waits at most, in bytes; a single text may be longer.
    private static let capacity = 256 << 10
    /// How long ``drain()`` waits at most, and how long without hope: in steps.
    private static let (stepCount, hopelessStepCount) = (50, 5)
    private static let step = DispatchTimeInterval.milliseconds(100)

    private struct State {
        var waiting: [UInt8] = []
        /// What is being written now, in bytes.
        var underWay = 0
        /// Lines that found no room since the last one that did.
        var leftOut = 0
        var isWriting = false

        /// Takes a line that says how many have been left out.
        mutating func tellOfLeftOut() {
            guard leftOut > 0 else { return }
            waiting += Array("nbdecrypt: warning: \(leftOut) lines were left out: nobody read them in time\n".utf8)
            leftOut = 0
        }
    }

    /// Messages and the log.
    static let standardError = LineQueue(.standardError)

    private let descriptor: FileDescriptor
    private let failed: @Sendable (Errno) -> Void
    private let state = Locked(State())
    private let writer = DispatchQueue(label: "nbdecrypt.lines")

    /// - Parameter failed: told why a text could not be written; on any thread.
    init(_ descriptor: FileDescriptor, failed: @escaping @Sendable (Errno) -> Void = { _ in }) {
        self.descriptor = descriptor
        self.failed = failed
    }

    /// Takes whole lines. Returns at once; any thread may call it.
    func add(_ text: String) {
        let bytes = Array(text.utf8)
        let isFirst = state.withLock { state in
            let used = state.underWay + state.waiting.count
            guard used == 0 || used + bytes.count <= Self.capacity else {
                state.leftOut += 1
                return false
            }
            state.tellOfLeftOut()
            state.waiting += bytes
            defer { state.isWriting = true }
            return !state.isWriting
        }
        if isFirst { writer.async { [self] in writeAll() } }
    }

    private func writeAll() {
        while let text = next() {
            do throws(Errno) { try Process.write(text, to: descriptor) } catch { failed(error) }
        }
    }

    private func next() -> [UInt8]? {
        state.withLock { state in
            if state.waiting.isEmpty { state.tellOfLeftOut() }
            let text = state.waiting
            state.waiting = []
            state.underWay = text.count
            state.isWriting = !text.isEmpty
            return text.isEmpty ? nil : text
        }
    }

    /// Waits until all is written, but not for a reader that does not read: half a second then.
    func drain() {
        guard state.withLock({ $0.isWriting }) else { return }
        let isDone = DispatchSemaphore(value: 0)
        writer.async { isDone.signal() }
        var hopeless = 0
        for _ in 0..<Self.stepCount where hopeless < Self.hopelessStepCount {
            guard isDone.wait(timeout: .now() + Self.step) == .timedOut else { return }
            if !Process.canWrite(to: descriptor) { hopeless += 1 }
        }
    }
}
