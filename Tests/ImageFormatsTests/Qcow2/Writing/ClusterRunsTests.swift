// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import ImageFormats

@Suite struct ClusterRunsTests {
    @Test(arguments: 0..<20 as Range<UInt64>)
    func `runs hold what a set holds, in as few runs as there are`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var (runs, expected) = (ClusterRuns(), Set<UInt64>())
        for _ in 0..<200 {
            let start = UInt64(random.number(below: 100))
            let clusters = start..<(start + UInt64(random.number(below: 8)))
            switch random.number(below: 3) {
            case 0:
                runs.remove(clusters)
                expected.subtract(clusters)
            case 1:
                runs.insert(clusters)
                expected.formUnion(clusters)
            default:
                runs = runs.union(ClusterRuns([clusters, 200..<201]))
                runs.remove(200..<201)
                expected.formUnion(clusters)
            }
            #expect(runs.runs.flatMap { Array($0) } == expected.sorted())
            #expect(zip(runs.runs, runs.runs.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
            let asked = UInt64(random.number(below: 110))..<110
            #expect(runs.first(in: asked) == expected.filter { asked.contains($0) }.min())
        }
        #expect(ClusterRuns(expected.map { $0..<($0 + 1) }.shuffled(using: &random)) == runs)
    }
}
