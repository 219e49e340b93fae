// SPDX-License-Identifier: Apache-2.0

import BlockIO
import SystemPackage

extension ImageLayer {
    /// Puts an overlay over the disk, before anything is looked for on it: all that is found there sees the same changes.
    ///
    /// Snapshots and the layers below stay as they are. Dirty bitmaps would not tell of the changes, and are left out.
    ///
    /// - Parameter directory: of the scratch file.
    /// - Throws: ``OpeningError`` when there can be none, or the disk is too large; ``FormatError`` without the cipher.
    mutating func putOverlay(in directory: FilePath, log: OpeningLog) throws {
        let file: FileDevice
        do { file = try FileDevice.scratch(in: directory) } catch {
            throw OpeningError(
                .cannotOpen,
                "\(directory): \(error); name one that can be written to, on a disk with room for the changes, with \(remedy: .overlayDirectory)"
            )
        }
        guard let overlay = OverlayDevice(disk, scratch: try OverlayScratch(file, size: disk.size)) else {
            throw OpeningError(
                .usage,
                "\(name): the disk has \(disk.size) bytes, and an overlay is for \(OverlayMap.maximumSize) at most; serve it read-only"
            )
        }
        log.notice(
            "\(name): changes go to an encrypted scratch file in \(directory), and are lost when the image is closed")
        disk = overlay
        bitmaps = []
        hasOverlay = true
    }
}
