// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
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

    /// A volume group of LVM, as far as its physical volumes are on the disk.
    struct VolumeGroup: Encodable {
        let name: String
        /// Where its physical volumes are, e.g. "partition 2".
        let places: [String]
        let volumes: [LogicalVolume]
    }

    struct LogicalVolume: Encodable {
        /// "GROUP/VOLUME".
        let path: String
        /// In the words of LVM.
        let type: String
        /// In bytes.
        let size: UInt64
        /// As of a partition; empty when it is not read.
        let contents: [String]
        /// Why `serve` refuses it; nil when it does not.
        let refusal: String?
        /// What to type to serve it; nil when that is refused.
        let command: String?
    }

    /// "GPT" or "MBR"; nil when there is none that can be read.
    let table: String?
    /// Of the table, in bytes.
    let sectorSize: Int?
    let partitions: [Partition]
    /// What the disk itself begins with.
    let contents: [String]
    let volumeGroups: [VolumeGroup]
    /// Why there are no other volume groups.
    let volumeFaults: [String]
    let warnings: [String]
    /// Why its partition table cannot be read.
    let fault: String?

    /// Partitions and logical volumes with a LUKS container, and what chooses them.
    var encrypted: [(name: String, choice: Remedy)] {
        func holdsLUKS(_ contents: [String]) -> Bool { contents.contains { $0.hasPrefix("LUKS") } }
        let found = partitions.filter { holdsLUKS($0.contents) }.map(\.number)
        let volumes = volumeGroups.flatMap(\.volumes).filter { holdsLUKS($0.contents) }.map(\.path)
        return found.map { ("partition \($0)", Remedy.partition($0)) }
            + volumes.map { ("logical volume \($0)", Remedy.logicalVolume($0)) }
    }

    /// Is nothing known of the disk?
    var isEmpty: Bool { table == nil && contents.isEmpty && fault == nil }

    /// - Parameters:
    ///   - disk: may have any alignment.
    ///   - name: of the disk, for sentences.
    ///   - sectorSize: of its partition table, in bytes; nil: found out.
    ///   - served: what `serve` is told to serve it, as the shell takes it.
    init(_ disk: any BlockDevice, name: String = "the disk", sectorSize: Int?, served: String) {
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
        let places: [LogicalVolumes.Place] =
            survey.table == nil
            ? [(name, disk)]
            : survey.parts.map { part in
                ("partition \(part.partition.number)", WindowDevice(disk, part.partition.range))
            }
        var faults: [String] = []
        let assembly = LVMAssembly(places) { place, error in
            if error.code != .unreadable { faults.append("\(place.name): \(error)") }
        }
        volumeGroups = assembly.groups.map { group in
            VolumeGroup(
                name: group.name, places: group.places,
                volumes: group.volumes.enumerated().map { index, volume in
                    LogicalVolume(volume, isLookedInto: index < DiskSurvey.mostParts, served: served)
                })
        }
        volumeFaults = faults + assembly.faults.map(\.worded)
        warnings = survey.table?.warnings ?? []
        fault = survey.fault?.worded
    }

    /// What a device begins with, e.g. "ext4", "LUKS2, aes-xts-plain64"; empty when nothing is recognised.
    fileprivate static func start(of device: any BlockDevice) -> [String] {
        contents(device) ?? DiskSurvey(device, sectorSize: nil).contents
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
            let count = CountText.of(partitions.count, "partition")
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
        for group in volumeGroups {
            let count = CountText.of(group.volumes.count, "logical volume")
            lines.append(("volume group", "\(group.name), \(count), on \(group.places.joined(separator: ", "))"))
            lines += group.volumes.map { ("volume", $0.line) }
            if let command = group.volumes.lazy.compactMap(\.command).first { lines.append(("to serve one", command)) }
        }
        return lines + volumeFaults.map { ("LVM", $0) } + warnings.map { ("warning", $0) }
    }
}

extension DiskReport.LogicalVolume {
    /// - Parameters:
    ///   - isLookedInto: its start is read.
    ///   - served: what `serve` is told to serve the disk, as the shell takes it.
    fileprivate init(_ volume: LVMLogicalVolume, isLookedInto: Bool, served: String) {
        path = volume.path
        type = volume.type
        size = volume.size
        do throws(FormatError) {
            let device = try volume.disk()
            contents = isLookedInto ? DiskReport.start(of: device) : []
            refusal = nil
            command = "nbdecrypt serve \(served) \(RemedyWording.words(.logicalVolume(volume.path)))"
        } catch {
            contents = []
            refusal = error.worded
            command = nil
        }
    }

    /// For people.
    fileprivate var line: String {
        guard let refusal else {
            let known = contents.isEmpty ? "nothing known" : contents.joined(separator: ", ")
            return "\(path): \(known); \(size) bytes, \(type)"
        }
        return "\(path): not served; \(size) bytes, \(type): \(refusal)"
    }
}
