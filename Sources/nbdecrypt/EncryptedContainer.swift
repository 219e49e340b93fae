// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats
import SystemPackage

/// What encrypts an image, as far as can be told without a passphrase.
enum EncryptedContainer {
    /// Nothing that is known.
    case none
    /// The clusters of a qcow or qcow2 image, with the passphrase as the key; the disk that a cipher gives.
    case legacyAES((LegacyAESCipher) -> any BlockDevice)
    case luks(LUKSContainer)
}

/// A LUKS container and where it was found.
struct LUKSContainer {
    let volume: LUKSVolume
    /// What the header was read from.
    let header: any BlockDevice
    /// "file", "detached header", "qcow2 header" or "guest disk".
    let place: String
    /// Of the device with the segments, in bytes; nil inside qcow2.
    let dataSize: UInt64?
    /// The size of the disk, in bytes, where qcow2 decides it.
    let guestSize: UInt64?

    /// The container in a file: the header at its start.
    init(file: FileDevice) throws(FormatError) {
        volume = try LUKSOpener.header(file, dataSize: file.size, isDetached: false)
        header = file
        place = "file"
        dataSize = file.size
        guestSize = nil
    }

    /// The data in `data` with its header in another file.
    init(data: any BlockDevice, header path: String) throws {
        do {
            let file = try FileDevice(path: FilePath(path), excludesWriters: false)
            volume = try LUKSOpener.header(file, dataSize: data.size, isDetached: true)
            header = file
        } catch {
            throw Failure(error, image: path)
        }
        place = "detached header"
        dataSize = data.size
        guestSize = nil
    }

    /// The header inside a qcow2 image.
    init(qcow2 header: Qcow2Header, file: FileDevice) throws(FormatError) {
        let window = header.luksWindow(in: file)
        volume = try LUKSOpener.header(window, dataSize: nil, isDetached: true)
        self.header = window
        place = "qcow2 header"
        dataSize = nil
        guestSize = header.virtualSize
    }

    /// A container that a guest made on its disk; nil when there is none.
    init?(guestDisk disk: any BlockDevice) throws(FormatError) {
        guard let holdsLUKS = try? ImageProbe.holdsLUKS(disk), holdsLUKS else { return nil }
        volume = try LUKSOpener.header(disk, dataSize: disk.size, isDetached: false)
        header = disk
        place = "guest disk"
        dataSize = disk.size
        guestSize = nil
    }
}
