// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import ImageFormats

/// Every call of the file fails once.
@Suite struct Qcow2FaultTests {
    static let shapes = [
        Qcow2Shape(clusterSize: 512, refcountBits: 64), Qcow2Shape(clusterSize: 512, variant: .snapshot),
        Qcow2Shape(clusterSize: 512, encryption: .aes, variant: .compressed),
        Qcow2Shape(clusterSize: 1024, variant: .backing), Qcow2Shape(clusterSize: 16384, variant: .extendedL2),
    ]
    private static let seed: UInt64 = 3

    @Test(arguments: shapes)
    func `an error reaches the caller, and the image stays sound and goes on`(shape: Qcow2Shape) async throws {
        let image = try await Qcow2TestImage(shape, seed: Self.seed)
        defer { image.remove() }
        let (first, last, failures) = try run(image, failing: nil, .inputOutput(""))
        #expect(failures == 0 && last - first > 50)
        var reached = 0
        for call in first + 1...last {
            for error in [BlockError.inputOutput("on purpose"), .noSpace("on purpose")] {
                let outcome = try run(image, failing: call, error)
                reached += outcome.failures
            }
        }
        // Some are about wishes, some are tried again, and some say what is known already.
        #expect(reached > (last - first))
    }

    /// - Returns: how many calls there had been before the first verb, and after the last one; how many verbs failed.
    private func run(
        _ image: Qcow2TestImage, failing call: Int?, _ error: BlockError
    ) throws -> (first: Int, last: Int, failures: Int) {
        let file = RecordedFile(image.bytes)
        let disk = try image.open(file, nil)
        var exercise = try Qcow2Exercise(image.shape, disk, seed: Self.seed, isAligned: true)
        let first = file.callCount
        if let call { file.fail(call: call, error) }
        var failures = 0
        for _ in 0..<30 {
            let verb = exercise.next()
            do {
                if try !exercise.attempt(verb, on: disk) { failures += 1 }
            } catch {
                throw Qcow2Exercise.Difference(description: "call \(call ?? 0) failing: \(error)")
            }
        }
        do { try disk.flush() } catch {
            failures += 1
            try disk.flush()
        }
        let last = file.callCount
        let name = "call \(call ?? 0) of \(last) failing with \(error)"
        try exercise.compare(0..<exercise.expected.count, disk, name)
        let audit = try image.audit(file.bytes, dataFile: nil)
        try #require(audit.faults.listed == [], "\(name)")
        let again = try image.open(file.bytes, dataFile: nil)
        try exercise.compare(0..<exercise.expected.count, again, "\(name), opened anew")
        return (first, last, failures)
    }
}
