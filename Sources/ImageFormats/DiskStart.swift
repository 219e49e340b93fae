// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// What the start of a disk says that it holds: a partition table, a file system, a volume label.
enum DiskStart {
    /// A name for a person, e.g. "a DOS partition table", "ext4"; nil when nothing is recognised.
    ///
    /// Boot code alone says nothing: it is installed on disks of any kind, also by mistake.
    static func contents(_ device: any BlockDevice) -> String? {
        do throws(FormatError) {
            if let table = try PartitionTable(device) {
                return table.kind == .gpt ? "a GPT" : "a DOS partition table"
            }
        } catch  where error.code == .damaged {
            return "a damaged GPT"
        } catch  where error.code == .unsupported {
            // It does not say in which unit it counts.
            return "a partition table"
        } catch {
            // A start that cannot be read says nothing.
            return nil
        }
        return volumes(device, ByteRange(offset: 0, length: device.size) ?? .empty).first
    }

    /// The file systems and volumes that a part of a disk begins with, e.g. "ext4", "LUKS2".
    ///
    /// At most 1 MiB is read.
    static func volumes(_ disk: any BlockDevice, _ range: ByteRange) -> [String] {
        var reader = EvidenceReader(StoredDevice(below: disk), extentBudget: 1024, byteBudget: 1 << 20)
        return Signature.recognise(range, &reader)
    }
}

/// A device that says of all its bytes that they are stored: signatures count wherever they come from.
private final class StoredDevice: ReadOnlyDevice {
    private let below: any BlockDevice

    init(below: any BlockDevice) { self.below = below }

    var size: UInt64 { below.size }

    var alignment: Int { below.alignment }

    var depth: Int { below.depth }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try below.read(into: &buffer, at: offset, mode)
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        try checkBounds(1, at: offset, layer: "start of a disk")
        return Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) { below.prefetch(range, budget) }
}
