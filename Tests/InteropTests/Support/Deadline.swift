// SPDX-License-Identifier: Apache-2.0

/// Ends work that hangs.
enum Deadline {
    /// Something did not happen in time.
    struct Missed: Error, CustomStringConvertible {
        let description: String
    }

    /// Does `work`, which is cancelled when it takes too long.
    /// - Throws: ``Missed``, or what `work` throws.
    static func seconds<Result: Sendable>(
        _ seconds: Int, for what: String, _ work: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        try await withThrowingTaskGroup(of: Result.self) { group in
            group.addTask(operation: work)
            group.addTask {
                try await Task.sleep(for: .seconds(seconds))
                throw Missed(description: "not done after \(seconds) s: \(what)")
            }
            defer { group.cancelAll() }
            guard let first = try await group.next() else { throw CancellationError() }
            return first
        }
    }

    /// Waits until `condition` gives something, and asks it every few milliseconds.
    /// - Throws: ``Missed``, or what `condition` throws.
    static func wait<Result>(
        seconds: Int = 300, for what: String, until condition: () async throws -> Result?
    ) async throws -> Result {
        let end = ContinuousClock.now + .seconds(seconds)
        while true {
            if let result = try await condition() { return result }
            guard ContinuousClock.now < end else { throw Missed(description: "not so after \(seconds) s: \(what)") }
            try await Task.sleep(for: .milliseconds(5))
        }
    }
}
