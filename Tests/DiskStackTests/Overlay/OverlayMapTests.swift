// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import DiskStack

@Suite struct OverlayMapTests {
    @Test func `what is said of units is found again, against an array`() throws {
        // Three leaves, the last of which is not full.
        let count = 2 * 4096 + 77
        var map = try #require(OverlayMap(size: UInt64(count) * 4096 - 4000))
        var expected = [OverlayMap.Place](repeating: .below, count: count)
        var random = SeededGenerator(seed: 13)
        for step in 0..<3000 {
            let first = random.number(below: count)
            let most = random.number(below: 3) == 0 ? count : 70
            let last = min(count, first + 1 + random.number(below: most))
            let place = try #require(OverlayMap.Place(rawValue: UInt64(random.number(below: 3))))
            map.set(UInt64(first)..<UInt64(last), to: place)
            expected.replaceSubrange(first..<last, with: repeatElement(place, count: last - first))
            let from = random.number(below: count)
            let to = from + 1 + random.number(below: count - from)
            let run = map.run(in: UInt64(from)..<UInt64(to))
            let length = expected[from..<to].prefix { $0 == expected[from] }.count
            try #require(run.place == expected[from] && run.count == UInt64(length), "step \(step), unit \(from)")
        }
        map.set(0..<UInt64(count), to: .scratch)
        #expect(map.run(in: 0..<UInt64(count)) == (.scratch, UInt64(count)))
    }

    @Test(
        arguments: [
            (1 << 20, 4096), (1 << 40, 4096), (1 << 40 + 1, 8192), (16 << 40, 64 << 10), (256 << 40, 1 << 20),
        ] as [(UInt64, UInt64)])
    func `units grow with the disk, so that there are never more than 2^28`(_ size: UInt64, _ unit: UInt64) {
        #expect(OverlayMap(size: size)?.unitSize == unit)
    }

    @Test func `a disk of more than 256 TiB has no overlay; one without a byte has`() {
        #expect(OverlayMap(size: 256 << 40 + 1) == nil)
        #expect(OverlayMap(size: 0) != nil)
    }

    @Test func `leaves whose units are all in one place take no memory, and it is got in no other`() throws {
        var map = try #require(OverlayMap(size: 1 << 40))
        #expect(map.leafCount == 0)
        map.set(10..<20, to: .scratch)
        #expect(map.leafCount == 1)
        map.set(0..<4096, to: .scratch)
        #expect(map.leafCount == 0)
        map.set(4000..<(1 << 28), to: .zeros)
        #expect(map.leafCount == 1)
        map.set(0..<4000, to: .zeros)
        #expect(map.leafCount == 0 && map.run(in: 0..<(1 << 28)) == (.zeros, 1 << 28))
    }
}
