// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import TestSupport

/// Verbs in an order that a number decides, carried out on a disk and on an array of bytes.
struct Qcow2Exercise {
    enum Verb {
        case write(Range<Int>, value: UInt8, WriteOptions)
        case zero(Range<Int>, ZeroOptions)
        case discard(Range<Int>)
        case flush
        case read(Range<Int>)

        var range: Range<Int> {
            switch self {
            case .write(let range, _, _), .zero(let range, _), .discard(let range), .read(let range): range
            case .flush: 0..<0
            }
        }
    }

    /// What was not as it should be: a sentence.
    struct Difference: Error, CustomStringConvertible {
        let description: String
    }

    let shape: Qcow2Shape
    /// What the disk has.
    private(set) var expected: [UInt8]
    private var random: SeededGenerator
    private var value: UInt8 = 0
    private let isAligned: Bool

    /// - Parameters:
    ///   - disk: is read once.
    ///   - isAligned: verbs are about whole sectors.
    init(_ shape: Qcow2Shape, _ disk: any BlockDevice, seed: UInt64, isAligned: Bool = false) throws {
        self.shape = shape
        self.isAligned = isAligned
        random = SeededGenerator(seed: seed)
        expected = try disk.read(count: Int(disk.size), at: 0)
    }

    /// The next verb.
    mutating func next() -> Verb {
        switch random.number(below: 20) {
        case 0..<10:
            // A byte that is neither that of zeros nor of noise.
            value = value % 200 + 1
            return .write(range(), value: value, random.number(below: 10) == 0 ? .durable : [])
        case 10..<13: return .zero(range(), random.number(below: 2) == 0 ? .mayDiscard : [])
        case 13..<15: return .discard(range())
        case 15..<16: return .flush
        default: return .read(range())
        }
    }

    private mutating func range() -> Range<Int> {
        let cluster = shape.clusterSize
        let size = expected.count
        switch random.number(below: 8) {
        case 0, 1:
            // Whole clusters.
            let first = random.number(below: size / cluster)
            return first * cluster..<min(size, (first + 1 + random.number(below: 3)) * cluster)
        case 2:
            let first = random.number(below: size / cluster)
            return first * cluster..<size
        case 3:
            // To the end of the disk.
            let (offset, _) = random.sectors(of: size, upTo: 512)
            return max(offset, size - 4 * cluster)..<size
        case 4 where !isAligned:
            // Any bytes.
            let offset = random.number(below: size)
            return offset..<(offset + 1 + random.number(below: min(5000, size - offset)))
        default:
            let (offset, length) = random.sectors(of: size, upTo: min(2 * cluster, 128 << 10))
            return offset..<(offset + length)
        }
    }

    /// What a write of this value writes: no two sectors beside each other are the same.
    static func bytes(_ range: Range<Int>, value: UInt8) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(range.count)
        var start = range.lowerBound
        while start < range.upperBound {
            let end = min(range.upperBound, start / 512 * 512 + 512)
            bytes += [UInt8](repeating: UInt8(truncatingIfNeeded: start / 512) ^ value | 1, count: end - start)
            start = end
        }
        return bytes
    }

    /// Carries out a verb.
    mutating func run(_ verb: Verb, on disk: any BlockDevice) throws {
        let range = verb.range
        let place = ByteRange(offset: UInt64(range.lowerBound), length: UInt64(range.count)) ?? .empty
        switch verb {
        case .write(_, let value, let options):
            let bytes = Self.bytes(range, value: value)
            try disk.write(bytes, at: place.offset, options)
            expected.replaceSubrange(range, with: bytes)
        case .zero(_, let options):
            try disk.zero(place, options)
            expected.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
        case .discard:
            try disk.discard(place)
            let found = try disk.read(count: range.count, at: place.offset)
            try check(found, range, after: [UInt8](repeating: 0, count: range.count), "\(verb)")
            expected.replaceSubrange(range, with: found)
        case .flush: try disk.flush()
        case .read: break
        }
        try compare(range, disk, "\(verb)")
    }

    /// Carries out a verb that may fail: each sector is as before then, or as it should be afterwards.
    /// - Returns: whether it succeeded.
    mutating func attempt(_ verb: Verb, on disk: any BlockDevice) throws -> Bool {
        let range = verb.range
        do {
            try run(verb, on: disk)
            return true
        } catch is BlockError {}
        let new =
            if case .write(_, let value, _) = verb { Self.bytes(range, value: value) } else {
                [UInt8](repeating: 0, count: range.count)
            }
        let found = try disk.read(count: range.count, at: UInt64(range.lowerBound))
        try check(found, range, after: new, "\(verb) failed")
        expected.replaceSubrange(range, with: found)
        return false
    }

    /// Each sector of what was found in a part of the disk is as before, or as it is to be.
    private func check(_ found: [UInt8], _ range: Range<Int>, after new: [UInt8], _ what: @autoclosure () -> String)
        throws
    {
        let (found, new, old) = (Data(found), Data(new), Data(expected[range]))
        var start = 0
        while start < found.count {
            // Sectors are those of the disk.
            let end = min(found.count, start + 512 - (range.lowerBound + start) % 512)
            let sector = found[start..<end]
            guard sector == old[start..<end] || sector == new[start..<end] else {
                throw Difference(
                    description: "\(what()): the sector at byte \(range.lowerBound + start) is neither old nor new")
            }
            start = end
        }
    }

    /// Compares a part of the disk with what it should be.
    func compare(_ range: Range<Int>, _ disk: any BlockDevice, _ what: @autoclosure () -> String) throws {
        let found = try disk.read(count: range.count, at: UInt64(range.lowerBound))
        try compare(range, found, what())
    }

    func compare(_ range: Range<Int>, _ found: [UInt8], _ what: @autoclosure () -> String) throws {
        guard Data(found) != Data(expected[range]) else { return }
        let index = zip(found, expected[range]).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? -1
        throw Difference(
            description:
                "\(what()): byte \(range.lowerBound + index) is \(index < 0 ? 0 : found[index]), and should be "
                + "\(index < 0 ? 0 : expected[range.lowerBound + index])")
    }
}
