// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A physical volume of LVM2: a device that says who it is, and that may describe the volume group to which it belongs.
public struct LVMPhysicalVolume: Sendable {
    /// What a person knows the device as, e.g. "partition 2".
    public let name: String
    /// Why metadata on it cannot be used; there may be other, and other copies elsewhere.
    public let faults: [FormatError]
    /// 32 characters.
    let identifier: String
    /// Takes any offset.
    let device: any BlockDevice
    let label: LVMLabel
    /// What the metadata areas say, without repetitions.
    let descriptions: [LVMGroupDescription]
    /// There is room for metadata, and none has been written: it is in no group.
    let isUnused: Bool

    /// LVM makes two areas at most; more are not looked at.
    private static let maximumAreas = 4

    /// Does a device have the label of a physical volume, sound or not?
    /// - Throws: ``FormatError`` with code `unreadable`.
    public static func isLabelled(_ device: any BlockDevice) throws(FormatError) -> Bool {
        LVMLabel.exists(try start(of: device))
    }

    /// Reads label and metadata; nil when there is no label.
    ///
    /// - Parameter texts: those that were found on this disk before.
    /// - Throws: ``FormatError``: `damaged` when the label is, `unreadable`, and `unsupported` when a disk has too many.
    public init?(_ device: any BlockDevice, name: String, _ texts: inout LVMTexts) throws(FormatError) {
        let start = try Self.start(of: device)
        guard let label = try LVMLabel(start, deviceSize: device.size) else { return nil }
        try texts.countVolume()
        self.name = name
        self.device = AlignedDevice.lifting(device)
        self.label = label
        identifier = label.identifier
        var descriptions: [LVMGroupDescription] = []
        var faults: [FormatError] = []
        var emptyCount = 0
        for place in label.metadataAreas.prefix(Self.maximumAreas) {
            do throws(FormatError) {
                let area = try LVMMetadataArea(place, on: self.device, &texts)
                switch area.contents {
                case .empty: emptyCount += 1
                case .ignored: break
                case .text(let text, let place) where !descriptions.contains { $0.text == text }:
                    descriptions.append(try texts.description(of: text, at: place))
                case .text: break
                }
            } catch {
                faults.append(error.naming(name))
            }
        }
        self.descriptions = descriptions
        self.faults = faults
        isUnused = emptyCount > 0 && descriptions.isEmpty && faults.isEmpty
    }

    private static func start(of device: any BlockDevice) throws(FormatError) -> SuperblockBytes {
        do { return try LVMLabel.start(of: device) } catch {
            throw .unreadable("the start of the device cannot be read: \(error)")
        }
    }

    /// Do metadata areas, the label or the end of the device leave the extents of a group their room?
    ///
    /// - Parameter end: of the extents that are wanted, in bytes.
    func check(_ member: LVMGroupDescription.Member, upTo end: UInt64) -> String? {
        let isElsewhere = label.metadataAreas.contains { $0.offset < end && $0.end > member.start }
        guard label.data.start == member.start, !isElsewhere, member.start >= 2048 || end == 0 else {
            return
                "the label of \(name) says that its data begins at byte \(label.data.start), and the metadata of the group says \(member.start)"
        }
        if let last = label.data.end, end > last {
            return "extents of it end at byte \(end) of \(name), behind the end of the data at \(last)"
        }
        guard end <= device.size else {
            return "extents of it end at byte \(end) of \(name), which is cut short: it has \(device.size) bytes"
        }
        return nil
    }
}
