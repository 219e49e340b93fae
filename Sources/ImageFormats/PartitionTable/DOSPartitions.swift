// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The partitions of an MBR: the primary ones, and the logical ones in a chain of records in extended partitions.
struct DOSPartitions {
    private var list: PartitionList
    /// Of the next logical partition.
    private var number = 5
    /// The sectors of the records that were followed. The first one is the MBR itself.
    private var visited: Set<UInt64> = [0]

    /// The last number that Linux gives.
    private static let lastNumber = 255
    /// Linux looks at this many records in a row that have no partition.
    private static let mostEmptyRecords = 100

    /// Reads what the record names.
    ///
    /// - Parameter disk: in the unit of the table.
    static func read(_ record: BootRecord, in disk: DiskSectors) -> PartitionList {
        var table = DOSPartitions(list: PartitionList(disk))
        for (index, entry) in record.entries.enumerated() where entry.isUsed && !entry.isExtended {
            if entry.first == 0 { table.list.warn("partition \(index + 1) covers the partition table") }
            table.add(index + 1, entry.first, entry)
        }
        for (index, entry) in record.entries.enumerated() where entry.isExtended {
            table.addLogical(in: entry, "extended partition \(index + 1)")
        }
        return table.list
    }

    private mutating func add(_ number: Int, _ first: UInt64, _ entry: BootRecord.Entry) {
        list.add(
            number, first, first + entry.count - 1, type: entry.typeText,
            typeName: PartitionTypeNames.dos[entry.type])
    }

    /// Follows the chain in an extended partition.
    ///
    /// Each record has entries for partitions, whose first sectors count from the record, and one for the next record,
    /// which counts from the extended partition. Sums are of three 32-bit numbers at most.
    private mutating func addLogical(in extended: BootRecord.Entry, _ name: String) {
        var place = extended.first
        var size = extended.count
        var emptyRecords = 0
        while true {
            guard visited.insert(place).inserted else {
                return list.warn("\(name): its chain comes back to sector \(place); what follows is left out")
            }
            guard let record = record(at: place, name) else { return }
            let before = number
            for (index, entry) in record.entries.enumerated() where entry.isUsed && !entry.isExtended {
                guard index < 2 || isTrusted(entry, at: place, size, extended) else { continue }
                guard number <= Self.lastNumber else {
                    return list.warn("\(name): logical partitions after \(Self.lastNumber) are left out")
                }
                if entry.first == 0 { list.warn("partition \(number) covers the record that names it") }
                let first = place + entry.first
                if first < extended.first || first + entry.count > extended.first + extended.count {
                    list.warn("partition \(number) is not within \(name)")
                }
                add(number, first, entry)
                number += 1
            }
            emptyRecords = number == before ? emptyRecords + 1 : 0
            guard let next = record.entries.first(where: \.isExtended) else { return }
            guard emptyRecords < Self.mostEmptyRecords else {
                return list.warn("\(name): \(emptyRecords) records without a partition; what follows is left out")
            }
            place = extended.first + next.first
            size = next.count
        }
    }

    /// The third and the fourth entry may hold garbage: Linux wants them within the record's part and the extended one.
    private func isTrusted(
        _ entry: BootRecord.Entry, at place: UInt64, _ size: UInt64, _ extended: BootRecord.Entry
    ) -> Bool {
        entry.first + entry.count <= size
            && place + entry.first + entry.count <= extended.first + extended.count
    }

    /// The record at a sector; nil, with a warning, when there is none.
    private mutating func record(at place: UInt64, _ name: String) -> BootRecord? {
        do throws(BlockError) {
            guard let sector = try list.sectors.bytes(at: place, count: 512) else {
                list.warn("\(name): its chain leads to sector \(place), and the disk has \(list.sectors.count)")
                return nil
            }
            if let record = BootRecord(sector) { return record }
            list.warn("\(name): sector \(place) is no record of logical partitions: 55 AA is missing")
        } catch {
            list.warn("\(name): sector \(place) cannot be read: \(error)")
        }
        return nil
    }
}
