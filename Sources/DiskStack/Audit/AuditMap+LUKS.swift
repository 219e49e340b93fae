// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats

extension AuditMap {
    /// The map of a file, or of a part of a disk, that holds a LUKS container with its header.
    init(_ volume: LUKSVolume, in device: any BlockDevice, cellCount: Int) {
        self.init(of: .file, size: device.size, cellCount: cellCount)
        add(0..<volume.fixedSize, .tables)
        for keyslot in volume.keyslots { add(keyslot.area.offset..<keyslot.area.end, .keyslots) }
        addData(of: volume, in: device)
    }

    /// The map of the data of a container whose header is elsewhere.
    init(dataOf volume: LUKSVolume, in device: any BlockDevice, cellCount: Int) {
        self.init(of: .file, size: device.size, cellCount: cellCount)
        addData(of: volume, in: device)
    }

    private mutating func addData(of volume: LUKSVolume, in device: any BlockDevice) {
        for segment in volume.disk where segment.offset < device.size {
            let length = min(segment.size ?? .max, device.size - segment.offset)
            guard let range = ByteRange(offset: segment.offset, length: length) else { continue }
            let kind: Kind =
                switch segment.kind {
                case .linear: .plain
                case .crypt, .integrity: LUKSPlaintext(segment) == nil ? .encrypted : .plain
                case .other: .unseen
                }
            add(range, of: device, at: range.offset, data: kind)
        }
    }
}
