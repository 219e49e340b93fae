// SPDX-License-Identifier: Apache-2.0

/// Every way to choose, one after the other: depth first, each from the start.
///
/// What chooses says in which state it does. From a state that has been there before, all ways on have been or will be
/// walked: what comes then is carried on with first choices, and not branched.
final class Walk {
    private struct Choice {
        var taken = 0
        let count: Int
        let state: UInt64
    }

    private var path: [Choice] = []
    /// How many choices of the path have been made in this run.
    private var depth = 0
    /// A state has been there before: the rest of the path has nothing new.
    private(set) var isKnown = false
    private var seen: Set<UInt64> = []
    private let prunes: Bool
    private(set) var pathCount = 0

    /// How many states had more than one way on.
    var stateCount: Int { seen.count }

    /// - Parameter prunes: states that have been there before are not branched again. Without it, all paths are walked.
    init(prunes: Bool = true) { self.prunes = prunes }

    /// - Parameters:
    ///   - count: of choices; at least one.
    ///   - state: all that what comes depends on.
    /// - Returns: one of them, from 0 on; 0 must lead to an end.
    func choose(_ count: Int, at state: () -> UInt64) -> Int {
        guard count > 1, !isKnown else { return 0 }
        if depth < path.count {
            let choice = path[depth]
            depth += 1
            // A state tells how it was come to: the last one stands for all.
            precondition(
                choice.count == count && (depth < path.count || choice.state == state()),
                "the same choices have not led to the same place")
            return choice.taken
        }
        let state = state()
        guard seen.insert(state).inserted || !prunes else {
            isKnown = true
            return 0
        }
        path.append(Choice(count: count, state: state))
        depth += 1
        return 0
    }

    /// Goes on to the next way, which chooses from the start again.
    /// - Returns: false when all have been walked.
    func next() -> Bool {
        pathCount += 1
        (depth, isKnown) = (0, false)
        while let last = path.popLast() {
            guard last.taken + 1 < last.count else { continue }
            path.append(Choice(taken: last.taken + 1, count: last.count, state: last.state))
            return true
        }
        return false
    }
}
