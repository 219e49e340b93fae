// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack

/// A new image that `migrate` would make, and what that takes; in bytes.
struct PlannedImage: Encodable {
    /// Its path.
    let new: String
    /// What would be copied into it, for people.
    let disk: String
    /// Of the disk.
    let size: UInt64
    /// What is read of it.
    let read: UInt64
    /// Bytes that are known to be zeros without being read.
    let zeros: UInt64
    /// False when the disk has too many runs to count them all: the numbers are then upper bounds.
    let isExact: Bool
    /// What it takes at most.
    let space: UInt64

    /// Reads nothing of the disk.
    init(_ step: MigrationSteps.Step, _ format: TargetFormat) {
        let clusters = step.base.map { TargetSpace.Clusters(over: $0) }
        let estimate = CopyEstimate(
            of: step.disk.device, unit: clusters?.size ?? UInt64(format.allocationUnit), isLayer: clusters != nil)
        new = step.new
        disk = step.disk.description
        (size, read, zeros, isExact) = (estimate.size, estimate.read, estimate.zeros, estimate.isExact)
        space = TargetSpace.most(format, estimate, clusters ?? .usual)
    }

    /// For people.
    var amount: String {
        "\(isExact ? "" : "at most ")\(read) of \(size) bytes\(ByteText.rounded(read)); \(ByteText.short(zeros)) are known to be zeros"
    }
}
