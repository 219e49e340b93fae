// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import ImageFormats

/// What a power failure leaves of a repair: an image that is still dirty, or one that is in order.
@Suite struct Qcow2RepairCrashTests {
    static let shapes = [
        Qcow2Shape(clusterSize: 512), Qcow2Shape(clusterSize: 512, refcountBits: 64, variant: .snapshot),
        Qcow2Shape(clusterSize: 4096, encryption: .aes, variant: .compressed),
        Qcow2Shape(clusterSize: 16384, variant: .extendedL2), Qcow2Shape(clusterSize: 4096, variant: .backing),
    ]

    private static func repair(_ file: RecordedFile) throws -> Qcow2Repair? {
        try Qcow2Repair(file: file, header: try #require(try Qcow2Header(device: file)))
    }

    @Test(arguments: shapes, [false, true])
    func `an image is dirty until it is in order`(shape: Qcow2Shape, losesBlock: Bool) async throws {
        let image = try await Qcow2TestImage(shape, seed: 6)
        defer { image.remove() }
        let expected = try contents(image, image.bytes)
        let damaged = Qcow2CountDamage(image.bytes, seed: 6, losesBlock: losesBlock).bytes
        let file = RecordedFile(damaged)
        file.record.start()
        _ = try #require(try Self.repair(file))
        var states = CrashStates([damaged], file.record.changes, seed: 6)
        var (dirty, clean, number) = (0, 0, 0)
        while let state = states.next() {
            number += 1
            let left = state.files[0]
            #expect(try contents(image, left) == expected)
            let isDirty = left[79] & 1 == 1
            var bytes = left
            if isDirty {
                dirty += 1
                let again = RecordedFile(bytes)
                _ = try #require(try Self.repair(again))
                bytes = again.bytes
            } else {
                clean += 1
            }
            let audit = try image.audit(bytes, dataFile: nil)
            try #require(audit.faults.listed == [] && audit.lostClusterCount == 0, "after \(state.changeCount) changes")
            guard !isDirty || number.isMultiple(of: 40) else { continue }
            let check = try await image.check(bytes, dataFile: nil)
            #expect(check.code == 0, "\(check.text)")
            let other = try await image.repairedByQEMU(left, dataFile: nil)
            #expect(try await image.compare(bytes, other, dataFile: nil).contains("Images are identical."))
        }
        #expect(dirty > 3 && clean > 0)
    }

    private func contents(_ image: Qcow2TestImage, _ bytes: [UInt8]) throws -> [UInt8] {
        let disk = try image.open(bytes, dataFile: nil)
        return try disk.read(count: Int(disk.size), at: 0)
    }

    @Test(arguments: shapes)
    func `an error of the file leaves an image that is repaired the next time`(shape: Qcow2Shape) async throws {
        let image = try await Qcow2TestImage(shape, seed: 6)
        defer { image.remove() }
        let damaged = Qcow2CountDamage(image.bytes, seed: 6, losesBlock: true).bytes
        let all = RecordedFile(damaged)
        _ = try Self.repair(all)
        var failures = 0
        for call in 2...all.callCount {
            let file = RecordedFile(damaged)
            let header = try #require(try Qcow2Header(device: file))
            file.record.fail(call: file.callCount + call, .inputOutput("on purpose"))
            do {
                _ = try Qcow2Repair(file: file, header: header)
            } catch {
                failures += 1
                #expect(file.bytes[79] & 1 == 1 || call >= all.callCount - 4, "call \(call)")
                _ = try Self.repair(file)
            }
            let audit = try image.audit(file.bytes, dataFile: nil)
            try #require(audit.faults.listed == [] && audit.lostClusterCount == 0, "call \(call) of \(all.callCount)")
        }
        #expect(failures > 5)
    }
}
