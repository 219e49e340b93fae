// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import BlockIO

struct ByteSetTests {
    @Test(arguments: [1, 2])
    func `ranges of any place and length are the bytes of a model`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        // More than one segment, and a last one that is not full.
        let size = (1 << 20) + 77_777
        var set = ByteSet(size: UInt64(size))
        var model = [Bool](repeating: false, count: size)
        for step in 0..<200 {
            let start = generator.number(below: size)
            let count = generator.number(below: step % 10 == 0 ? size : 20_000)
            set.insert(UInt64(start)..<UInt64(start + count))
            let end = min(size, start + count)
            model.replaceSubrange(start..<end, with: repeatElement(true, count: end - start))
            if step % 100 == 99 {
                #expect(set.count == UInt64(model.count { $0 }))
                var gaps: [Range<Int>] = []
                for index in 0..<size where !model[index] {
                    if gaps.last?.upperBound == index {
                        gaps[gaps.count - 1] = gaps[gaps.count - 1].lowerBound..<index + 1
                    } else {
                        gaps.append(index..<index + 1)
                    }
                }
                #expect(set.gaps(limit: .max).map { Int($0.offset)..<Int($0.end) } == gaps)
                #expect(set.gapCount == gaps.count && set.gaps(limit: 2).count == min(2, gaps.count))
                for _ in 0..<100 {
                    let place = generator.number(below: size)
                    #expect(set.contains(UInt64(place)) == model[place])
                }
            }
        }
        set.insert(0..<UInt64(size) + 5)
        #expect(set.isComplete && set.gaps(limit: 1).isEmpty && set.gapCount == 0)
    }

    @Test
    func `what finds no room is told, and never taken for complete`() {
        var set = ByteSet(size: 1 << 40)
        // Nothing meets, in all segments.
        for index in 0..<(1 << 20) as Range<UInt64> { set.insert(index << 20..<index << 20 + 1) }
        #expect(set.count == 1 << 20 && set.leftOut == 0)
        set.insert(5000..<5001)
        #expect(set.leftOut == 1 && !set.contains(5000) && set.contains(1 << 20))
        // What joins others needs no room.
        set.insert(1..<1000)
        #expect(set.contains(999))
    }

    @Test
    func `a union has the bytes of both`() {
        var (one, other) = (ByteSet(size: 4 << 20), ByteSet(size: 4 << 20))
        one.insert(0..<1 << 20)
        one.insert(3 << 20..<4 << 20)
        other.insert((1 << 20) - 5..<2 << 20)
        let union = one.union(other)
        #expect(union.count == 3 << 20 && one.count == 2 << 20 && other.count == (1 << 20) + 5)
        #expect(union.gaps(limit: 5) == [ByteRange(offset: 2 << 20, length: 1 << 20)])
    }

    @Test
    func `an empty disk is complete`() {
        let set = ByteSet(size: 0)
        #expect(set.isComplete && set.gapCount == 0)
    }
}
