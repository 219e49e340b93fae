// SPDX-License-Identifier: Apache-2.0

import Testing

/// Lets six test cases in at a time: the machine may be small, and each of them runs a server and its clients, and waits for
/// them half of the time.
actor Turnstile {
    static let shared = Turnstile(places: 6)

    private var places: Int
    private var queue: [CheckedContinuation<Void, Never>] = []

    init(places: Int) { self.places = places }

    func enter() async {
        if places > 0 {
            places -= 1
        } else {
            await withCheckedContinuation { queue.append($0) }
        }
    }

    func leave() {
        if queue.isEmpty {
            places += 1
        } else {
            queue.removeFirst().resume()
        }
    }
}

/// The trait of a suite whose cases take turns.
struct TurnstileTrait: SuiteTrait, TestTrait, TestScoping {
    var isRecursive: Bool { true }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        guard testCase != nil else { return try await function() }
        await Turnstile.shared.enter()
        do {
            try await function()
        } catch {
            await Turnstile.shared.leave()
            throw error
        }
        await Turnstile.shared.leave()
    }
}

extension Trait where Self == TurnstileTrait {
    /// At most six cases of all suites with this trait run at the same time.
    static var fewAtATime: TurnstileTrait { TurnstileTrait() }
}
