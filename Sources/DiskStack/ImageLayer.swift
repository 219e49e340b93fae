// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats

/// One image of a chain, open.
struct ImageLayer {
    /// As messages name it.
    let name: String
    let format: ImageFormat
    /// "AES-128", "LUKS1, aes-xts-plain64"; nil when it is not encrypted.
    let encryption: String?
    /// The disk as this layer and those below it make it; takes requests of any offset and length.
    var disk: any BlockDevice
    /// The layers below, the nearest first.
    let below: [ImageLayer]
    /// Internal snapshots; empty for formats that have none.
    let snapshots: [Snapshot]
    /// Dirty bitmaps of the disk, those that cannot be relied on as well.
    var bitmaps: [Qcow2Bitmap] = []
    /// Changes of the disk go to a scratch file.
    var hasOverlay = false

    /// The disk of an internal snapshot.
    struct Snapshot {
        let id: String
        let name: String
        let disk: any BlockDevice
    }

    /// For people, e.g. "qcow2, AES-128, decrypted, over 2 backing files".
    var description: String {
        var parts = [format.rawValue]
        switch format {
        case .raw: break
        // The name of the format is in that of the cipher.
        case .luks: parts = ["\(encryption ?? "LUKS"), decrypted"]
        case .qcow2, .qcow: parts.append(encryption.map { "\($0), decrypted" } ?? "not encrypted")
        }
        switch below.count {
        case 0: break
        case 1: parts.append("over a backing file")
        default: parts.append("over \(below.count) backing files")
        }
        if hasOverlay { parts.append("under an overlay") }
        return parts.joined(separator: ", ")
    }
}
