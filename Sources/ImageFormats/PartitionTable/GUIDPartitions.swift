// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The partitions of a GPT.
///
/// Source: UEFI specification, "GUID Partition Table (GPT) Disk Layout".
enum GUIDPartitions {
    private typealias Fault = GUIDPartitionHeader.Fault

    /// A header with its entries, and the disk in their unit.
    private struct Copy {
        let header: GUIDPartitionHeader
        let entries: SuperblockBytes
        let disk: DiskSectors

        init(_ disk: DiskSectors, at place: UInt64) throws(Fault) {
            header = try GUIDPartitionHeader(disk, at: place)
            entries = try header.entries(in: disk)
            try header.check(entries)
            self.disk = disk
        }
    }

    /// Reads the primary table or, when it is damaged, the backup in the last sector.
    ///
    /// A header is one sector behind the start, or in the last sector, and says so with a checksum: that decides in which
    /// unit it counts.
    ///
    /// - Parameters:
    ///   - views: the disk with each sector size that it may have.
    ///   - isHybrid: the MBR has partitions of its own.
    /// - Throws: `damaged` when no table is sound, `unsupported` when there are sound ones for several sector sizes.
    static func find(in views: [DiskSectors], isHybrid: Bool) throws(FormatError) -> PartitionList {
        let primary = copies(in: views) { _ in 1 }
        if let copy = try only(primary.sound) { return list(copy, isHybrid, primaryFault: nil) }
        let primaryFault = primary.fault ?? (Fault(reason: "there is none", isAbsent: true), 0)
        let backup = copies(in: views.filter { $0.count > 2 }) { $0.count - 1 }
        if let copy = try only(backup.sound) { return list(copy, isHybrid, primaryFault: primaryFault.fault) }
        throw .damaged(
            "GUID partition table, which the first sector announces,", at: primaryFault.place,
            found: "no sound copy: \(primaryFault.fault.reason); backup: "
                + (backup.fault?.fault.reason ?? "the disk is too small for it"),
            allowed: "a table whose checksums are right, or its backup in the last sector",
            advice: "repair it in a copy of the image, for example with gdisk")
    }

    /// The sound copies at a place that depends on the unit, and the fault that is worth telling most: that of a table with
    /// a signature.
    private static func copies(
        in views: [DiskSectors], at place: (DiskSectors) -> UInt64
    ) -> (sound: [Copy], fault: (fault: Fault, place: UInt64)?) {
        var sound: [Copy] = []
        var first: (fault: Fault, place: UInt64)?
        for disk in views {
            do throws(Fault) {
                sound.append(try Copy(disk, at: place(disk)))
            } catch {
                if first == nil || first?.fault.isAbsent == true && !error.isAbsent {
                    first = (error, place(disk) * disk.size)
                }
            }
        }
        return (sound, first)
    }

    /// The only one; nil when there is none.
    private static func only(_ sound: [Copy]) throws(FormatError) -> Copy? {
        guard sound.count > 1 else { return sound.first }
        let sizes = sound.map { String($0.disk.size) }.joined(separator: " and ")
        throw .unsupported(
            "partitions: the disk has a sound GPT for each of the sector sizes \(sizes); say \(remedy: .sectorSize(nil)) with the one that counts"
        )
    }

    private static func list(_ copy: Copy, _ isHybrid: Bool, primaryFault: Fault?) -> PartitionList {
        var list = PartitionList(copy.disk)
        if isHybrid { list.warn("the disk has a hybrid MBR; its partitions are ignored in favour of the GPT") }
        if let primaryFault {
            list.warn("the GPT is damaged: \(primaryFault.reason); the backup at the end of the disk is used")
        } else {
            warnOfBackup(of: copy.header, copy.disk, &list)
        }
        addEntries(copy.entries, of: copy.header, copy.disk, &list)
        return list
    }

    /// What the entries say, be they sound or not, without a look at the backup.
    static func list(_ header: GUIDPartitionHeader, _ entries: SuperblockBytes, _ disk: DiskSectors) -> PartitionList {
        var list = PartitionList(disk)
        addEntries(entries, of: header, disk, &list)
        return list
    }

    /// Says when the backup is missing, damaged or different.
    private static func warnOfBackup(of header: GUIDPartitionHeader, _ disk: DiskSectors, _ list: inout PartitionList) {
        let last = max(header.alternate, header.usable.upperBound)
        guard last < disk.count else {
            list.warn(
                "the GPT reaches to sector \(last), and the disk has \(disk.count): the image is not complete, or was shrunk"
            )
            return
        }
        do throws(Fault) {
            let backup = try Copy(disk, at: header.alternate).header
            if backup.entriesChecksum != header.entriesChecksum || backup.diskGUID != header.diskGUID {
                list.warn("the GPT and its backup at sector \(header.alternate) are different; the first one is used")
            }
        } catch {
            list.warn("the backup of the GPT at sector \(header.alternate) is damaged: \(error.reason)")
        }
    }

    private static func addEntries(
        _ entries: SuperblockBytes, of header: GUIDPartitionHeader, _ disk: DiskSectors, _ list: inout PartitionList
    ) {
        let last = max(disk.count - 1, header.alternate, header.place)
        for index in 0..<header.entryCount {
            let entry = index * header.entrySize
            guard !entries.isZero(entry, 16) else { continue }
            let range = (entries.little(entry + 32, UInt64.self), entries.little(entry + 40, UInt64.self))
            let number = index + 1
            guard range.0 <= range.1 else {
                list.warn("partition \(number) begins at sector \(range.0) and ends at \(range.1): it is left out")
                continue
            }
            // Linux does the same. On a disk that lost its end, where Linux sees no table, partitions are shortened.
            guard range.1 <= last else {
                list.warn("partition \(number) ends at sector \(range.1), the table at \(last): it is left out")
                continue
            }
            if !header.usable.contains(range.0) || !header.usable.contains(range.1) {
                let usable = "\(header.usable.lowerBound) to \(header.usable.upperBound)"
                list.warn("partition \(number) is not within the sectors for partitions, \(usable)")
            }
            let type = guidText(entries.field(entry, 16))
            list.add(
                number, range.0, range.1, type: type, typeName: PartitionTypeNames.gpt[type],
                name: name(entries.field(entry + 56, 72)))
        }
    }

    /// The canonical text: the first three fields are little-endian.
    private static func guidText(_ bytes: ArraySlice<UInt8>) -> String {
        let digits = bytes.map { $0.hexadecimal(uppercase: true) }
        let order = [[3, 2, 1, 0], [5, 4], [7, 6], [8, 9], [10, 11, 12, 13, 14, 15]]
        return order.map { field in field.map { digits[$0] }.joined() }.joined(separator: "-")
    }

    /// UTF-16, up to the first NUL; for a person's eyes.
    private static func name(_ bytes: ArraySlice<UInt8>) -> String {
        let field = Array(bytes)
        let units = stride(from: 0, to: field.count - 1, by: 2).map { UInt16(field[$0 + 1]) << 8 | UInt16(field[$0]) }
        let text = String(decoding: units.prefix { $0 != 0 }, as: UTF16.self)
        return ShownText.printable(text)
    }
}
