// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import TestSupport
import Testing

@testable import ImageFormats

/// Random verbs on images of all shapes, judged by qemu-img. `NBDECRYPT_WRITES=10000` makes the runs longer, and
/// `NBDECRYPT_WRITES_SEED` makes them others.
@Suite struct Qcow2RandomWritesTests {
    private static let verbCount = number("NBDECRYPT_WRITES") ?? 60
    private static let seed = number("NBDECRYPT_WRITES_SEED") ?? 1

    private static func number(_ name: String) -> Int? { ProcessInfo.processInfo.environment[name].flatMap(Int.init) }

    /// Every variant with every encryption and two cluster sizes; these and the sizes of reference counts take turns.
    static let shapes: [Qcow2Shape] = {
        var shapes: [Qcow2Shape] = []
        for (number, variant) in Qcow2Shape.Variant.allCases.enumerated() {
            for encryption in Qcow2Shape.Encryption.allCases {
                for (index, size) in [512, 4096, 65536, 2 << 20].enumerated()
                where (index + number) % 2 == encryption.rawValue.count % 2 {
                    // LUKS is for version 3 in old programs, and most of its ways are those of AES.
                    let bits = [1, 16, 64, 4][(index / 2 + number + encryption.rawValue.count) % 4]
                    var shape = Qcow2Shape(
                        clusterSize: size, encryption: encryption, refcountBits: bits, variant: variant)
                    if !shape.isPossible { shape.refcountBits = 16 }
                    if shape.isPossible { shapes.append(shape) }
                }
            }
        }
        return shapes
    }()

    @Test(arguments: shapes)
    func `whatever is written is read, and the image stays sound`(shape: Qcow2Shape) async throws {
        let image = try await Qcow2TestImage(shape, seed: UInt64(Self.seed))
        defer { image.remove() }
        do {
            try await run(image, comparingAll: false)
        } catch let difference as Qcow2Exercise.Difference {
            // The same again, to find the first verb after which anything is wrong.
            Issue.record("\(difference)")
            try await run(image, comparingAll: true)
        }
    }

    private func run(_ image: Qcow2TestImage, comparingAll: Bool) async throws {
        let file = RecordedFile(image.bytes)
        let dataFile = image.dataFile.map { RecordedFile($0) }
        let disk = try image.open(file, dataFile)
        var exercise = try Qcow2Exercise(image.shape, disk, seed: UInt64(Self.seed))
        let everything = 0..<exercise.expected.count
        var verbs: [Qcow2Exercise.Verb] = []
        for number in 1...Self.verbCount {
            let verb = exercise.next()
            verbs.append(verb)
            do {
                try exercise.run(verb, on: disk)
                if comparingAll { try exercise.compare(everything, disk, "after \(verb)") }
            } catch {
                throw Qcow2Exercise.Difference(
                    description: "verb \(number): \(error); before: \(verbs.suffix(6).dropLast())")
            }
            guard number.isMultiple(of: 100) || number == Self.verbCount || comparingAll else { continue }
            try exercise.compare(everything, disk, "after verb \(number)")
            try disk.flush()
            let audit = try image.audit(file.bytes, dataFile: dataFile?.bytes)
            #expect(audit.faults.listed == [] && audit.lostClusterCount == 0 && audit.isComplete)
            guard audit.faults.total == 0, audit.lostClusterCount == 0 else {
                throw Qcow2Exercise.Difference(
                    description: "verb \(number): \(audit.faults.listed), lost \(audit.lostClusterPlaces)")
            }
        }
        guard !comparingAll else { return }
        try exercise.compare(everything, try image.open(file.bytes, dataFile: dataFile?.bytes), "opened anew")
        let check = try await image.check(file.bytes, dataFile: dataFile?.bytes)
        #expect(check.code == 0, "\(check.text)")
        let converted = try await image.convert(file.bytes, dataFile: dataFile?.bytes)
        try exercise.compare(everything, Array(converted.prefix(everything.count)), "as qemu-img reads it")
        if image.shape.variant == .rawDataFile, image.shape.encryption == .none, let dataFile {
            let raw = Array(dataFile.bytes.prefix(everything.count))
            try exercise.compare(0..<raw.count, raw, "as the data file has it")
        }
        if image.shape.hasBacking {
            let base = try Data(contentsOf: image.directory.appending(path: "base"))
            #expect([UInt8](base) == image.backing, "nobody writes to it")
        }
    }
}
