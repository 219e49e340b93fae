// SPDX-License-Identifier: Apache-2.0

package import BlockIO
package import ImageFormats

/// A part of a disk that somebody has named: a partition, a window, or one in the other.
package struct PartSelection {
    package let partition: Int?
    /// In bytes.
    package let offset: UInt64?
    /// In bytes.
    package let size: UInt64?
    /// Of partition tables, in bytes; nil: found out.
    package let sectorSize: Int?
    /// The image, as a person typed it.
    package let image: String
    package let log: OpeningLog

    /// Is it a part of the disk?
    package var isPart: Bool { partition != nil || offset != nil || size != nil }

    package init(
        partition: Int? = nil, offset: UInt64? = nil, size: UInt64? = nil, sectorSize: Int? = nil, image: String,
        log: OpeningLog
    ) {
        (self.partition, self.offset, self.size) = (partition, offset, size)
        self.sectorSize = sectorSize
        self.image = image
        self.log = log
    }

    /// - Parameter selection: what of the disk; nil: what the options say.
    package init(_ options: OpeningOptions, _ log: OpeningLog, _ selection: DiskSelection? = nil) {
        let selection = selection ?? options.selection
        self.init(
            partition: selection.partition, offset: selection.offset, size: selection.size,
            sectorSize: options.sectorSize, image: options.name, log: log)
    }

    /// What has to be said to choose it.
    package var choices: [Remedy] {
        let all: [Remedy?] = [
            partition.map { .partition($0) }, offset.map { .offset($0) }, size.map { .size($0) },
            sectorSize.map { .sectorSize($0) },
        ]
        return all.compactMap { $0 }
    }

    /// Steps from a disk to the part, outermost first.
    package enum Step: Equatable {
        case partition(Int)
        case window
    }

    /// What has to be done: nothing for the whole disk.
    ///
    /// With both, it is a window of the partition or, where the disk has no partition table, a partition of the disk that
    /// begins at the window. Nothing that is encrypted is opened to find out which.
    ///
    /// - Throws: ``FormatError``; ``OpeningError`` when it can be both.
    package func steps(on disk: any BlockDevice) throws -> [Step] {
        let isWindow = offset != nil || size != nil
        guard let partition else { return isWindow ? [.window] : [] }
        guard isWindow else { return [.partition(partition)] }
        // What begins where the disk does is the disk.
        guard let offset, offset > 0 else { return [.partition(partition), .window] }
        let outer = try PartitionTable(disk, sectorSize: sectorSize)
        let nested = (try? window(of: disk, "")).flatMap { try? PartitionTable($0.device, sectorSize: sectorSize) }
        let isInner = outer == nil || nested?.partitions.contains { $0.number == partition } == true
        let isOuter = outer?.partitions.contains { $0.number == partition } == true
        guard !isInner || !isOuter else {
            throw OpeningError(
                .usage,
                "\(image): \(remedy: .partition(partition)) with \(remedy: .offset(nil)) can be a part of partition \(partition), or partition \(partition) "
                    + "of the disk that begins at that byte: say \(remedy: .exports("partition/\(partition)")) for this, and for that "
                    + "\(remedy: .offset(nil)) from the start of the disk, without \(remedy: .partition(nil))")
        }
        return isInner ? [.window, .partition(partition)] : [.partition(partition), .window]
    }

    /// The part of a disk that a step leads to.
    ///
    /// - Parameter description: of the disk, for clients.
    /// - Throws: ``FormatError``; ``OpeningError`` when there is no such part.
    package func part(_ step: Step, of disk: any BlockDevice, _ description: String) throws -> DiskPart {
        switch step {
        case .window: return try window(of: disk, description)
        case .partition(let number):
            let all = try partitions(of: disk) ?? []
            if let found = all.first(where: { $0.number == number }) { return found.part }
            let numbers = all.map { String($0.number) }.joined(separator: ", ")
            throw OpeningError(
                .usage, "\(image) has no partition \(number); it has \(numbers.isEmpty ? "none" : numbers)")
        }
    }

    /// The data of a LUKS container whose header is in a file of its own: the part of `disk` as it is, or all of it.
    ///
    /// - Parameters:
    ///   - description: of the disk, for clients.
    ///   - said: the format of the image; nil: found out.
    /// - Throws: ``FormatError`` when the part looks like an image; ``OpeningError`` when there is no such part.
    package func detachedData(on disk: any BlockDevice, _ description: String, said: ImageFormat?) throws -> DiskPart {
        let whole = DiskPart(
            exportName: "", noun: "disk", name: "the disk", image: image, description: description, device: disk)
        let found = try steps(on: disk).reduce(whole) { try part($1, of: $0.device, $0.description) }
        if isPart, said != .luks, let looks = FormatDecision.looksLikeImage(found) {
            throw FormatError.unsupported(
                "\(looks), and \(remedy: .luksHeader(path: nil)) says that it is the data of a LUKS container; if that is the disk of the image, copy the "
                    + "image into a file of its own; if it looks like that by chance, say so with \(remedy: .format("luks"))"
            )
        }
        return found
    }

    /// The parts that the partition table on a disk names; nil when there is no table.
    ///
    /// - Throws: ``FormatError`` when it cannot be told where they are.
    package func partitions(of disk: any BlockDevice) throws(FormatError) -> [(number: Int, part: DiskPart)]? {
        guard let table = try PartitionTable(disk, sectorSize: sectorSize) else { return nil }
        for warning in table.warnings { log.warning("\(image): \(warning)") }
        return table.partitions.map { partition in
            var parts = [partition.typeName ?? "type \(partition.type)"]
            if !partition.name.isEmpty { parts.append("\"\(partition.name)\"") }
            let part = DiskPart(
                exportName: "partition/\(partition.number)", noun: "partition", name: "partition \(partition.number)",
                image: image, description: parts.joined(separator: ", "),
                device: WindowDevice(disk, partition.range))
            return (partition.number, part)
        }
    }

    private func window(of disk: any BlockDevice, _ description: String) throws -> DiskPart {
        let offset = offset ?? 0
        guard offset < disk.size, let range = ByteRange(offset: offset, length: size ?? disk.size - offset),
            range.fits(disk.size)
        else {
            throw OpeningError(
                .usage,
                "\(remedy: .offset(nil)) and \(remedy: .size(nil)) do not fit the disk of \(disk.size) bytes of \(image)"
            )
        }
        let what = "\(range.length) bytes from byte \(offset)"
        return DiskPart(
            exportName: "", noun: "part", name: what, image: image, description: "\(what) of \(description)",
            device: WindowDevice(disk, range))
    }
}
