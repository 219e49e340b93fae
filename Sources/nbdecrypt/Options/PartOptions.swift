// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import DiskStack
import ImageFormats

/// The options that name a part of a disk, the same for all commands.
struct PartOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp("Take this partition, decrypted if it holds LUKS, instead of the disk.", valueName: "n"))
    var partition: Int?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The sector size of partition tables, where the disk does not tell: 512, 1024, 2048 or 4096.",
            valueName: "bytes"))
    var sectorSize: ByteCount?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Take the disk from this byte on (K, M, G, T), decrypted if LUKS begins there.", valueName: "size"))
    var offset: ByteCount?

    @Option(name: .long, help: ArgumentHelp("Take only so many bytes of the disk (K, M, G, T).", valueName: "size"))
    var size: ByteCount?

    func validate() throws {
        guard partition.map({ $0 > 0 }) ?? true else { throw ValidationError("--partition takes a number from 1 on.") }
        guard sectorSize.map({ bytes in PartitionTable.sectorSizes.contains { UInt64($0) == bytes.bytes } }) ?? true
        else { throw ValidationError("--sector-size takes 512, 1024, 2048 or 4096.") }
        guard size.map({ $0.bytes > 0 }) ?? true else { throw ValidationError("--size takes a number above 0.") }
    }

    /// Is there one that is for one disk only?
    var isPart: Bool { partition != nil || offset != nil || size != nil }

    /// Says what is given of it.
    func apply(to options: inout OpeningOptions) {
        if let partition { options.selection.partition = partition }
        if let offset { options.selection.offset = offset.bytes }
        if let size { options.selection.size = size.bytes }
        if let sectorSize { options.sectorSize = Int(sectorSize.bytes) }
    }
}
