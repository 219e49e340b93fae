// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import ImageFormats

/// What a power failure leaves: all writes before the last flush of the file, and of those after it any sectors.
@Suite struct Qcow2CrashTests {
    static let shapes = [
        Qcow2Shape(clusterSize: 512), Qcow2Shape(clusterSize: 512, refcountBits: 1),
        Qcow2Shape(clusterSize: 512, encryption: .aes, refcountBits: 64, variant: .snapshot),
        Qcow2Shape(clusterSize: 512, variant: .compressed),
        Qcow2Shape(clusterSize: 1024, refcountBits: 64, variant: .backing),
        Qcow2Shape(clusterSize: 512, variant: .version2Backing), Qcow2Shape(clusterSize: 512, variant: .version2),
        Qcow2Shape(clusterSize: 16384, variant: .extendedL2),
    ]

    /// A verb, and when it was under way.
    private struct Step {
        let verb: Qcow2Exercise.Verb
        /// How many events there had been before and after it.
        let events: ClosedRange<Int>
        /// The disk afterwards.
        let expected: [UInt8]

        /// Has everything before it, and itself, reached the disk?
        var isFlush: Bool {
            switch verb {
            case .flush: true
            case .write(_, _, let options): options.contains(.durable)
            case .zero, .discard, .read: false
            }
        }
    }

    @Test(arguments: shapes)
    func `whatever a power failure leaves is sound, and has what was flushed`(shape: Qcow2Shape) async throws {
        let image = try await Qcow2TestImage(shape, seed: 5)
        defer { image.remove() }
        let file = RecordedFile(image.bytes)
        let disk = try image.open(file, nil)
        file.record()
        var exercise = try Qcow2Exercise(shape, disk, seed: 5, isAligned: true)
        var steps = [Step(verb: .flush, events: 0...0, expected: exercise.expected)]
        for _ in 0..<45 {
            let verb = exercise.next()
            if case .read = verb { continue }
            let before = file.events.count
            try exercise.run(verb, on: disk)
            steps.append(Step(verb: verb, events: before...file.events.count, expected: exercise.expected))
        }
        var states = CrashStates(image.bytes, file.events, seed: 5)
        var count = 0
        while let state = states.next() {
            count += 1
            try judge(image, state.bytes, at: state.eventCount, steps)
            guard count.isMultiple(of: 150) else { continue }
            let check = try await image.check(state.bytes, dataFile: nil)
            let audit = try image.audit(state.bytes, dataFile: nil)
            #expect(check.code == (audit.lostClusterCount > 0 ? 3 : 0), "\(check.text)")
        }
        #expect(count > 200)
    }

    /// Judges what is left after a number of events.
    private func judge(_ image: Qcow2TestImage, _ bytes: [UInt8], at eventCount: Int, _ steps: [Step]) throws {
        let audit = try image.audit(bytes, dataFile: nil)
        try #require(audit.faults.listed == [], "after \(eventCount) events")
        let disk = try image.open(bytes, dataFile: nil)
        let found = try disk.read(count: Int(disk.size), at: 0)
        let flushed = steps.lastIndex { $0.isFlush && $0.events.upperBound <= eventCount } ?? 0
        let possible = steps[flushed...].prefix { $0.events.lowerBound <= eventCount }
        for sector in stride(from: 0, to: found.count, by: 512) {
            let isPossible = possible.contains {
                found.hasSameBytes(sector..<(sector + 512), as: $0.expected, at: sector)
            }
            try #require(
                isPossible, "sector at byte \(sector) after \(eventCount) events, flushed: \(steps[flushed].events)")
        }
    }
}

/// The contents that a file can have when the power fails.
struct CrashStates {
    private let events: [RecordedFile.Event]
    private var random: SeededGenerator
    /// What is on disk for certain.
    private var durable: [UInt8]
    /// The first event that may be lost.
    private var firstPending = 0
    private var eventCount = 0
    private var variation = 0

    init(_ bytes: [UInt8], _ events: [RecordedFile.Event], seed: UInt64) {
        durable = bytes
        self.events = events
        random = SeededGenerator(seed: seed)
    }

    /// The next one: nothing of what has not been flushed, all of it, any sectors of it, and any writes; after each event.
    mutating func next() -> (bytes: [UInt8], eventCount: Int)? {
        guard eventCount <= events.count else { return nil }
        var bytes = durable
        for event in events[firstPending..<eventCount] {
            switch variation {
            case 0: event.apply(to: &bytes)
            case 1: event.apply(to: &bytes) { Bool.random(using: &random) }
            default: if Bool.random(using: &random) { event.apply(to: &bytes) }
            }
        }
        defer { advance() }
        return (bytes, eventCount)
    }

    private mutating func advance() {
        variation += 1
        guard variation > 2 || firstPending == eventCount else { return }
        variation = 0
        if eventCount < events.count, case .flush = events[eventCount] {
            for event in events[firstPending..<eventCount] { event.apply(to: &durable) }
            firstPending = eventCount + 1
        }
        eventCount += 1
        if firstPending > eventCount { eventCount = firstPending }
    }
}
