// SPDX-License-Identifier: Apache-2.0

package import BlockIO
package import Crypto
package import ImageFormats

/// What encrypts an image, as far as can be told without a passphrase.
package enum EncryptedContainer {
    /// Nothing that is known.
    case none
    /// The clusters of a qcow or qcow2 image, with the passphrase as the key; the disk that a cipher gives.
    case legacyAES((LegacyAESCipher) -> any BlockDevice)
    case luks(LUKSContainer)

    /// Is there one?
    package var isEncrypted: Bool { if case .none = self { false } else { true } }
}

/// A LUKS container and where it was found.
package struct LUKSContainer {
    package let volume: LUKSVolume
    /// What the header was read from.
    package let header: any BlockDevice
    /// "file", "detached header", "header alone", "qcow2 header", "guest disk", or the noun of a part: "partition".
    package let place: String
    /// Where a detached header is, as a person typed it.
    package private(set) var headerName: String?
    /// Is all of it in files of this machine, where cryptsetup can reach it? The data belonging to a detached header may be on the
    /// disk in an image instead.
    package private(set) var isHeaderInFile = true
    package private(set) var isDataInFile = true
    /// Why `serve` refuses a header alone.
    package private(set) var refusal: Sentence?
    /// What has to be said besides the image, and the file with the header, to find it.
    package private(set) var choices: [Remedy] = []
    /// Where the segments are.
    private let data: Data
    /// Of the device with the segments, in bytes; nil inside qcow2 and for a header alone.
    package let dataSize: UInt64?
    /// The size of the disk, in bytes, where qcow2 decides it.
    package let guestSize: UInt64?

    /// Where the encrypted data of a container is.
    private enum Data {
        case device(any BlockDevice)
        /// In the clusters of an image: the disk that a cipher gives; nil when other files are a part of it.
        case clusters(((any SectorCipher) -> any BlockDevice)?)
        /// Not known.
        case elsewhere
    }

    /// The decrypted disk, which takes requests of any offset and length; nil when it is not all in the image.
    ///
    /// - Throws: ``FormatError`` when `serve` refuses the container.
    package func disk(
        _ opened: [LUKSUnlock.Opened], allowing permissions: LUKSPlaintext.Permissions
    ) throws(FormatError) -> (any BlockDevice)? {
        let segments = try LUKSSegments(volume, allowing: permissions)
        switch data {
        case .device(let data): return try LUKSOpener.disk(volume, segments, over: data, opened)
        case .clusters(let image):
            guard let image, let key = opened.first?.key else { return nil }
            return AlignedDevice.lifting(image(try segments.cipher(key: key)))
        case .elsewhere: return nil
        }
    }

    /// It lies in an image that cryptsetup does not see into, or in a part of one.
    package var isInImage: Bool { !isHeaderInFile || !["file", "detached header", "header alone"].contains(place) }

    /// What has to be said besides the image to open it.
    package var remedies: [Remedy] { [headerName].compactMap { $0 }.map { .luksHeader(path: $0) } + choices }

    /// The container in a file: the header at its start. The data may be elsewhere.
    package init(source: OpenSource) throws(FormatError) {
        let file = source.device
        header = file
        isHeaderInFile = source.isFile
        guestSize = nil
        do throws(FormatError) {
            volume = try LUKSOpener.header(file, dataSize: file.size, isDetached: false)
            place = "file"
            data = .device(file)
            dataSize = file.size
        } catch {
            // Is it only that the data is not here?
            guard error.code == .damaged,
                let alone = try? LUKSOpener.header(file, dataSize: nil, isDetached: true),
                let data = alone.disk.map(\.offset).min(),
                data == 0 || data >= file.size || file.size <= alone.headerSize
            else { throw error }
            volume = alone
            place = "header alone"
            self.data = .elsewhere
            dataSize = nil
            refusal = error.sentence
        }
    }

    /// The data in `part` with its header elsewhere.
    ///
    /// - Parameters:
    ///   - isInFile: is the part a whole file?
    ///   - opener: of the header.
    ///   - choices: of the part.
    package init(
        data part: DiskPart, isInFile: Bool, header headerPlace: ImageSource, by opener: SourceOpener, choices: [Remedy]
    ) throws {
        let device = part.device
        do {
            let source = try opener.open(headerPlace, SourceAccess(excludesWriters: false))
            volume = try LUKSOpener.header(source.device, dataSize: device.size, isDetached: true)
            header = source.device
            isHeaderInFile = source.isFile
        } catch {
            throw OpeningError(error, image: headerPlace.name)
        }
        place = "detached header"
        headerName = headerPlace.name
        self.choices = choices
        isDataInFile = isInFile
        data = .device(device)
        dataSize = device.size
        guestSize = nil
    }

    /// The header inside a qcow2 image.
    package init(qcow2 header: Qcow2Header, file: any BlockDevice) throws(FormatError) {
        let isAlone = header.backingFile == nil && !header.features.contains(.externalDataFile)
        data = .clusters(isAlone ? { Qcow2Image(file: file, header: header, cipher: $0) } : nil)
        let window = header.luksWindow(in: file)
        volume = try LUKSOpener.header(window, dataSize: nil, isDetached: true)
        self.header = window
        place = "qcow2 header"
        dataSize = nil
        guestSize = header.virtualSize
    }

    /// A container that a guest made on its disk; nil when there is none.
    package init?(guestDisk disk: any BlockDevice) throws(FormatError) {
        switch try? ImageProbe.findLUKS(disk) {
        case .container?: break
        case .encryptedClone?: throw ImageProbe.encryptedClone.naming("the guest disk")
        case .none?, .leftover?, nil: return nil
        }
        volume = try LUKSOpener.header(disk, dataSize: disk.size, isDetached: false)
        header = disk
        place = "guest disk"
        data = .device(disk)
        dataSize = disk.size
        guestSize = nil
    }

    /// A container in a part of a disk; nil when there is none.
    ///
    /// - Parameter choices: of the part.
    /// - Throws: ``FormatError`` when it is damaged, or of no use alone.
    package init?(part: DiskPart, choices: [Remedy]) throws(FormatError) {
        switch try ImageProbe.findLUKS(part.device) {
        case .none, .leftover: return nil
        case .encryptedClone: throw ImageProbe.encryptedClone.naming(part.name)
        case .container: break
        }
        do throws(FormatError) {
            volume = try LUKSOpener.header(part.device, dataSize: part.device.size, isDetached: false)
        } catch { throw error.naming(part.name) }
        header = part.device
        place = part.noun
        data = .device(part.device)
        self.choices = choices
        dataSize = part.device.size
        guestSize = nil
    }
}
