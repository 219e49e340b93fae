// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import ImageFormats

/// What a disk is copied into.
enum TargetFormat: String, CaseIterable, ExpressibleByArgument {
    /// The bytes of the disk, in the clear.
    case raw
    /// qcow2, in the clear.
    case qcow2
    /// qcow2 with LUKS inside.
    case qcow2LUKS = "qcow2-luks"
    case luks1
    case luks2

    /// For people.
    var description: String {
        switch self {
        case .raw: "raw, not encrypted"
        case .qcow2: "qcow2, not encrypted"
        case .qcow2LUKS: "qcow2 with LUKS"
        case .luks1: "LUKS1"
        case .luks2: "LUKS2"
        }
    }

    var isEncrypted: Bool {
        switch self {
        case .raw, .qcow2: false
        case .qcow2LUKS, .luks1, .luks2: true
        }
    }

    /// What the file is, for who opens it.
    var imageFormat: ImageFormat {
        switch self {
        case .raw: .raw
        case .qcow2, .qcow2LUKS: .qcow2
        case .luks1, .luks2: .luks
        }
    }

    /// At the end of the names of files.
    var fileExtension: String { self == .qcow2LUKS ? "qcow2" : rawValue }

    /// Bytes that nobody has written read as zeros. What was never written in a LUKS container decrypts to noise.
    var isZeroAtFirst: Bool { imageFormat != .luks }

    /// What a new image allocates at once, in bytes.
    var allocationUnit: Int { imageFormat == .qcow2 ? 64 << 10 : 4096 }

    /// Can an image of it stand on another?
    var hasBackingFiles: Bool { imageFormat == .qcow2 }

    /// Must the disk have whole sectors of 512 bytes?
    var hasSectors: Bool { self != .raw }

    /// What a disk is copied into: what somebody says, or what the name of the new file does, or what the old image makes of it;
    /// nil when none of them tells.
    static func chosen(_ said: TargetFormat?, fileName: String, old: ImageFormat) -> TargetFormat? {
        if let format = said ?? of(fileName: fileName) { return format }
        return switch old {
        case .qcow, .qcow2: .qcow2LUKS
        case .raw, .luks: nil
        }
    }

    /// What is meant by the name of a new file, where it can mean only one.
    static func of(fileName: String) -> TargetFormat? {
        guard let dot = fileName.lastIndex(of: ".") else { return nil }
        return switch fileName[fileName.index(after: dot)...].lowercased() {
        case "raw": .raw
        case "luks1": .luks1
        case "luks2": .luks2
        default: nil
        }
    }
}
