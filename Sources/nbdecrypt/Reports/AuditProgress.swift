// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

/// A bar on standard error that grows while an audit goes on; nothing where there is no terminal.
final class AuditProgress {
    private static let width = 40
    private let isShown = isatty(FileDescriptor.standardError.rawValue) == 1
    private var percent = -1
    private let started = ContinuousClock.now

    /// Shows which part is done, 0 to 1.
    func show(_ part: Double) {
        let percent = Int(max(0, min(1, part)) * 100)
        // What takes no time needs no bar.
        guard isShown, percent != self.percent, ContinuousClock.now - started > .milliseconds(300) else { return }
        self.percent = percent
        let done = percent * Self.width / 100
        let bar = String(repeating: "#", count: done) + String(repeating: ".", count: Self.width - done)
        write("\r[\(bar)] \(percent)%")
    }

    /// Takes the bar away.
    func clear() {
        guard percent >= 0 else { return }
        percent = -1
        write("\r\u{1B}[K")
    }

    private func write(_ text: String) { LineQueue.standardError.add(text) }
}
