// SPDX-License-Identifier: Apache-2.0

import Testing

@Suite struct WalkTests {
    /// Walks three choices, of which the second is of three.
    private func paths(_ walk: Walk, state: ([Int]) -> UInt64) -> [[Int]] {
        var paths: [[Int]] = []
        repeat {
            var path: [Int] = []
            for count in [2, 3, 2] {
                let choice = walk.choose(count) { state(path) }
                path.append(choice)
            }
            paths.append(path)
        } while walk.next()
        return paths
    }

    @Test func `every way is walked, once`() {
        let walk = Walk()
        let paths = paths(walk) { path in path.reduce(1) { $0 * 4 + UInt64($1) } }
        #expect(paths.count == 12)
        #expect(Set(paths).count == 12)
        #expect(walk.pathCount == 12)
        // Before each choice: one, two, six.
        #expect(walk.stateCount == 9)
    }

    @Test func `a state that has been there is not branched again, if it is not to be`() {
        // All that counts is how many choices have been made.
        let pruning = Walk()
        #expect(paths(pruning) { UInt64($0.count) } == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 2, 0], [1, 0, 0]])
        #expect(pruning.stateCount == 3)
        #expect(paths(Walk(prunes: false)) { UInt64($0.count) }.count == 12)
    }

    @Test func `a choice of one is none`() {
        let walk = Walk()
        #expect(walk.choose(1) { 0 } == 0)
        #expect(walk.stateCount == 0)
        #expect(!walk.next())
    }
}
