// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Carries out the verbs of a writable layer in an order that a number decides, and compares with an array of bytes.
public struct LayerExercise {
    private let layer: any BlockDevice
    private var random: SeededGenerator
    private var expected: [UInt8]

    /// What was not as it should be: a sentence.
    public struct Difference: Error, CustomStringConvertible {
        /// Says where and what.
        public let description: String
    }

    /// Reads all of the layer, which has some megabytes at most.
    public init(_ layer: any BlockDevice, seed: UInt64) throws(BlockError) {
        self.layer = layer
        random = SeededGenerator(seed: seed)
        expected = try layer.read(count: Int(layer.size), at: 0)
    }

    /// Carries out `count` verbs, and compares all that is known after each.
    public mutating func run(_ count: Int) throws {
        for number in 0..<count {
            let range = someRange()
            switch random.next() % 8 {
            case 0...3:
                let bytes = (0..<Int(range.length)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                try layer.write(bytes, at: range.offset, number.isMultiple(of: 2) ? .durable : [])
                expect(bytes, at: range)
            case 4, 5:
                try layer.zero(range, number.isMultiple(of: 2) ? .mayDiscard : [])
                expect([UInt8](repeating: 0, count: Int(range.length)), at: range)
            case 6:
                try layer.discard(range)
                // What it reads as nobody knows; nothing else may have changed.
                expect(try layer.read(count: Int(range.length), at: range.offset), at: range)
            default: try layer.flush()
            }
            try compare("after verb \(number) at \(range.offset), \(range.length) bytes")
        }
    }

    private mutating func someRange() -> ByteRange {
        let unit = UInt64(layer.alignment)
        let units = layer.size / unit
        let first = random.next() % units
        let most = random.next() % 4 == 0 ? units : 1 + 9000 / unit
        let count = min(units - first, 1 + random.next() % most)
        return ByteRange(offset: first * unit, length: count * unit) ?? .empty
    }

    private mutating func expect(_ bytes: [UInt8], at range: ByteRange) {
        expected.replaceSubrange(Int(range.offset)..<Int(range.end), with: bytes)
    }

    private func compare(_ place: String) throws {
        let found = try layer.read(count: expected.count, at: 0)
        guard found != expected else { return }
        let byte = zip(found, expected).enumerated().first { $1.0 != $1.1 }?.offset ?? -1
        throw Difference(description: "\(place): byte \(byte) differs")
    }
}
