// SPDX-License-Identifier: Apache-2.0

@testable import NBDServer

/// A right to send that somebody watches: each call of it is a place where threads may change.
final class WatchedRight: SendingRight, @unchecked Sendable {
    enum Call: UInt64 {
        case takeForLoop, takeHanded, giveBackFromLoop, close, takeForWorker, giveBackFromWorker, handToLoop
    }

    private let inner: SendingRight
    private let watch: (Call, () -> Bool) -> Bool

    /// - Parameters:
    ///   - inner: which has to do what is asked for.
    ///   - watch: carries out each call.
    init(of inner: SendingRight, watch: @escaping (Call, () -> Bool) -> Bool) {
        (self.inner, self.watch) = (inner, watch)
    }

    private func tell(_ call: Call, _ body: () -> Void) {
        _ = watch(call) {
            body()
            return true
        }
    }

    override func takeForLoop() -> Bool { watch(.takeForLoop) { inner.takeForLoop() } }
    override func takeHanded() { tell(.takeHanded) { inner.takeHanded() } }
    override func giveBackFromLoop() { tell(.giveBackFromLoop) { inner.giveBackFromLoop() } }
    override func close() -> Bool { watch(.close) { inner.close() } }
    override func takeForWorker() -> Bool { watch(.takeForWorker) { inner.takeForWorker() } }
    override func giveBackFromWorker() -> Bool { watch(.giveBackFromWorker) { inner.giveBackFromWorker() } }
    override func handToLoop() -> Bool { watch(.handToLoop) { inner.handToLoop() } }
}
