// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats

/// What `nbdecrypt info` says of a disk that can be read without a key: its partition table, and what begins where.
struct DiskReport: Encodable {
    struct Partition: Encodable {
        let number: Int
        /// In bytes.
        let offset: UInt64
        /// In bytes.
        let size: UInt64
        /// "0x83", or a GUID.
        let type: String
        /// In words, when it is well known.
        let typeName: String?
        /// Of a GPT; may be empty.
        let name: String
        /// E.g. "ext4", "LUKS2, aes-xts-plain64"; empty when nothing is recognised.
        let contents: [String]
    }

    /// "GPT" or "MBR"; nil when there is none that can be read.
    let table: String?
    /// Of the table, in bytes.
    let sectorSize: Int?
    let partitions: [Partition]
    /// What the disk itself begins with.
    let contents: [String]
    let warnings: [String]
    /// Why its partition table cannot be read.
    let fault: String?

    /// Partitions with a LUKS container, for a sentence.
    var encrypted: [String] {
        partitions.filter { $0.contents.contains { $0.hasPrefix("LUKS") } }.map { "partition \($0.number)" }
    }

    /// Is nothing known of the disk?
    var isEmpty: Bool { table == nil && contents.isEmpty && fault == nil }

    /// - Parameters:
    ///   - disk: may have any alignment.
    ///   - sectorSize: of its partition table, in bytes; nil: found out.
    init(_ disk: any BlockDevice, sectorSize: Int?) {
        let disk = AlignedDevice.lifting(disk)
        let survey = DiskSurvey(disk, sectorSize: sectorSize)
        table = survey.table.map { $0.kind == .gpt ? "GPT" : "MBR" }
        self.sectorSize = survey.table?.sectorSize
        contents = Self.contents(disk) ?? survey.contents
        partitions = survey.parts.enumerated().map { index, part in
            let partition = part.partition
            return Partition(
                number: partition.number, offset: partition.range.offset, size: partition.range.length,
                type: partition.type, typeName: partition.typeName, name: partition.name,
                contents: (index < DiskSurvey.mostParts ? Self.contents(WindowDevice(disk, partition.range)) : nil)
                    ?? part.contents)
        }
        warnings = survey.table?.warnings ?? []
        fault = survey.fault?.description
    }

    /// What is known of a LUKS container; nil when there is none.
    private static func contents(_ device: any BlockDevice) -> [String]? {
        guard let finding = try? ImageProbe.findLUKS(device), finding == .container else { return nil }
        do throws(FormatError) {
            let volume = try LUKSOpener.header(device, dataSize: device.size, isDetached: false)
            let ciphers = volume.disk.map(\.cipherName)
            let names = ciphers.enumerated().filter { ciphers.firstIndex(of: $0.element) == $0.offset }.map(\.element)
            return ["LUKS\(volume.version), \(names.joined(separator: " and "))"]
        } catch {
            return ["LUKS (\(error))"]
        }
    }

    /// Names and values for people.
    var lines: [(String, String)] {
        var lines: [(String, String)] = contents.map { ("contents", $0) }
        if let table, let sectorSize {
            let count = "\(partitions.count) partition\(partitions.count == 1 ? "" : "s")"
            lines.append(("partitions", "\(table), \(count), sectors of \(sectorSize) bytes"))
        }
        if let fault { lines.append(("partitions", "refused: \(fault)")) }
        lines += partitions.map { partition in
            let name = partition.name.isEmpty ? "" : " \"\(partition.name)\""
            let contents = partition.contents.isEmpty ? "nothing known" : partition.contents.joined(separator: ", ")
            return (
                "partition \(partition.number)",
                "\(contents); \(partition.size) bytes from byte \(partition.offset), "
                    + "\(partition.typeName ?? "type \(partition.type)")\(name)"
            )
        }
        return lines + warnings.map { ("warning", $0) }
    }
}
