// SPDX-License-Identifier: Apache-2.0

import Testing

/// Lets four test cases in at a time: the machine may be small, and each of them runs a server and its clients.
actor Turnstile {
    static let shared = Turnstile(places: 4)

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
    /// At most four cases of all suites with this trait run at the same time.
    static var fourAtATime: TurnstileTrait { TurnstileTrait() }
}
