// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import ImageFormats

/// Every call of a file fails once: with EIO, and with ENOSPC, which all that EDQUOT and EFBIG mean has become by then.
@Suite struct Qcow2FaultTests {
    @Test(arguments: zip(Qcow2Shape.small, UInt64(1)...UInt64(Qcow2Shape.small.count)))
    func `an error reaches the caller, and the image stays sound and goes on`(shape: Qcow2Shape, seed: UInt64)
        async throws
    {
        let image = try await Qcow2TestImage(shape, seed: seed)
        defer { image.remove() }
        // Keys are derived the first time.
        _ = try image.open(image.bytes, dataFile: image.dataFile)
        let (first, last, failures) = try run(image, seed, failing: nil, .inputOutput(""))
        #expect(failures == 0 && last - first > 15)
        var reached = 0
        for call in first + 1...last {
            for error in [BlockError.inputOutput("on purpose"), .noSpace("on purpose")] {
                let outcome = try run(image, seed, failing: call, error)
                reached += outcome.failures
            }
        }
        // Some are about wishes, some are tried again, and some say what is known already.
        #expect(reached > (last - first))
    }

    /// - Returns: how many calls there had been before the first verb, and after the last one; how many verbs failed.
    private func run(
        _ image: Qcow2TestImage, _ seed: UInt64, failing call: Int?, _ error: BlockError
    ) throws -> (first: Int, last: Int, failures: Int) {
        let file = RecordedFile(image.bytes)
        let dataFile = image.dataFile.map { RecordedFile($0, beside: file) }
        let disk = try image.open(file, dataFile)
        var exercise = try Qcow2Exercise(image.shape, disk, seed: seed, isAligned: true)
        let first = file.callCount
        if let call { file.record.fail(call: call, error) }
        var failed: [Qcow2Exercise.Verb] = []
        var verbCount = 0
        while verbCount < 8 {
            let verb = exercise.next()
            // What is changed is read as well.
            if case .read = verb { continue }
            verbCount += 1
            do {
                if try !exercise.attempt(verb, on: disk) { failed.append(verb) }
            } catch {
                throw Qcow2Exercise.Difference(description: "call \(call ?? 0) failing: \(error)")
            }
        }
        var failures = failed.count
        do { try disk.flush() } catch {
            failures += 1
            try disk.flush()
        }
        let last = file.callCount
        let name = "call \(call ?? 0) of \(last) failing with \(error)"
        try exercise.compare(0..<exercise.expected.count, disk, name)
        let audit = try image.audit(file.bytes, dataFile: dataFile?.bytes)
        try #require(audit.faults.listed == [], "\(name)")
        let again = try image.open(file.bytes, dataFile: dataFile?.bytes)
        try exercise.compare(0..<exercise.expected.count, again, "\(name), opened anew")
        guard image.shape.hasRawView, let dataFile else { return (first, last, failures) }
        // What has failed may have changed the data file and not the disk, until it is done again.
        for verb in failed { try exercise.run(verb, on: disk) }
        try disk.flush()
        try exercise.compare(
            0..<exercise.expected.count, Array(dataFile.bytes.prefix(exercise.expected.count)), "\(name), the data file"
        )
        return (first, last, failures)
    }
}
