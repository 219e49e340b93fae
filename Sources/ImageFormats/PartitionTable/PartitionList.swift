// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Collects the partitions of a table, keeps them within the disk, and says what is odd about them.
struct PartitionList {
    /// The disk and the unit of the table.
    let sectors: DiskSectors
    private(set) var partitions: [Partition] = []
    private var warnings: [String] = []
    private var untold = 0

    /// More warnings than this are counted and not told.
    private static let mostWarnings = 20

    init(_ sectors: DiskSectors) { self.sectors = sectors }

    /// Adds a sentence, unless there are many already.
    mutating func warn(_ sentence: String) {
        if warnings.count < Self.mostWarnings { warnings.append(sentence) } else { untold += 1 }
    }

    /// Adds the partition from sector `first` to sector `last`, which is not less.
    ///
    /// As in Linux, one that begins beyond the end of the disk is left out, and one that ends there is shortened.
    mutating func add(
        _ number: Int, _ first: UInt64, _ last: UInt64, type: String, typeName: String?, name: String = ""
    ) {
        guard first < sectors.count else {
            warn("partition \(number) begins at sector \(first), and the disk has \(sectors.count): it is left out")
            return
        }
        if last >= sectors.count {
            warn("partition \(number) ends at sector \(last), and the disk has \(sectors.count): it is shortened")
        }
        let count = min(last, sectors.count - 1) - first + 1
        guard let range = ByteRange(offset: first * sectors.size, length: count * sectors.size) else { return }
        partitions.append(Partition(number: number, range: range, type: type, typeName: typeName, name: name))
    }

    /// All warnings, and one for each partition that shares bytes with one that begins before it.
    func warningsWithOverlaps() -> [String] {
        var list = self
        var furthest: Partition?
        for partition in partitions.sorted(by: { ($0.range.offset, $0.number) < ($1.range.offset, $1.number) }) {
            if let furthest, furthest.range.end > partition.range.offset {
                list.warn("partitions \(furthest.number) and \(partition.number) overlap")
            }
            if partition.range.end > furthest?.range.end ?? 0 { furthest = partition }
        }
        return list.untold == 0 ? list.warnings : list.warnings + ["and \(list.untold) more warnings about partitions"]
    }
}
