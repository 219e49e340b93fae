// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import ImageFormats

/// What a power failure leaves: all writes before the last flush of each file, and of those after it any sectors.
@Suite struct Qcow2CrashTests {
    /// A verb, and when it was under way.
    private struct Step {
        let verb: Qcow2Exercise.Verb
        /// How many changes of files there had been before and after it.
        let changes: ClosedRange<Int>
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

    @Test(arguments: zip(Qcow2Shape.small, UInt64(1)...UInt64(Qcow2Shape.small.count)))
    func `whatever a power failure leaves is sound, and has what was flushed`(shape: Qcow2Shape, seed: UInt64)
        async throws
    {
        let image = try await Qcow2TestImage(shape, seed: seed)
        defer { image.remove() }
        let (changes, steps) = try work(on: image, seed)
        var states = CrashStates([image.bytes] + [image.dataFile].compactMap(\.self), changes, seed: seed)
        var count = 0
        while let state = states.next() {
            count += 1
            let dataFile = state.files.count > 1 ? state.files[1] : nil
            let audit = try image.audit(state.files[0], dataFile: dataFile)
            try #require(audit.faults.listed == [], "after \(state.changeCount) changes")
            let disk = try image.open(state.files[0], dataFile: dataFile)
            try judge(try disk.read(count: Int(disk.size), at: 0), "the disk", after: state.changeCount, steps)
            if shape.hasRawView, let dataFile {
                try judge(dataFile, "the data file", after: state.changeCount, steps)
            }
            guard count.isMultiple(of: 90) else { continue }
            let check = try await image.check(state.files[0], dataFile: dataFile)
            #expect(check.code == (audit.lostClusterCount > 0 ? 3 : 0), "\(check.text)")
        }
        #expect(count > 100)
    }

    /// Writes to an image.
    private func work(on image: Qcow2TestImage, _ seed: UInt64) throws -> (changes: [FileRecord.Change], steps: [Step])
    {
        let file = RecordedFile(image.bytes)
        let disk = try image.open(file, image.dataFile.map { RecordedFile($0, beside: file) })
        file.record.start()
        var exercise = try Qcow2Exercise(image.shape, disk, seed: seed, isAligned: true)
        var steps = [Step(verb: .flush, changes: 0...0, expected: exercise.expected)]
        while steps.count < 25 {
            let verb = exercise.next()
            if case .read = verb { continue }
            let before = file.record.changes.count
            try exercise.run(verb, on: disk)
            steps.append(Step(verb: verb, changes: before...file.record.changes.count, expected: exercise.expected))
        }
        return (file.record.changes, steps)
    }

    /// Every sector is as the last flush left it, or as one of the verbs since then.
    private func judge(_ found: [UInt8], _ what: String, after changeCount: Int, _ steps: [Step]) throws {
        let flushed = steps.lastIndex { $0.isFlush && $0.changes.upperBound <= changeCount } ?? 0
        let possible = steps[flushed...].prefix { $0.changes.lowerBound <= changeCount }
        for sector in stride(from: 0, to: steps[0].expected.count, by: 512) {
            let isPossible = possible.contains {
                found.hasSameBytes(sector..<(sector + 512), as: $0.expected, at: sector)
            }
            try #require(
                isPossible,
                "\(what), sector at byte \(sector) after \(changeCount) changes, flushed: \(steps[flushed].changes)")
        }
    }
}
