// SPDX-License-Identifier: Apache-2.0

public import BlockIO
import Crypto
public import ImageFormats

/// From a file name to the disks in it: files, formats, ciphers, partitions.
///
/// This is where a program begins that wants to read encrypted images:
///
/// ```swift
/// let disks = try DiskOpener(OpeningOptions(.init("old.qcow2")), secrets: secrets).disks()
/// ```
public struct DiskOpener {
    private let options: OpeningOptions
    private let ring: SecretRing
    private let log: OpeningLog
    private let isSealed: Bool

    /// - Parameters:
    ///   - secrets: open what is encrypted.
    ///   - report: is told, on any thread, of what somebody may want to know.
    public init(
        _ options: OpeningOptions, secrets: any SecretProvider = GivenSecrets(),
        report: @escaping @Sendable (OpeningEvent) -> Void = { _ in }
    ) {
        let log = OpeningLog(report)
        self.init(options, ring: SecretRing(secrets, log: log), log: log)
    }

    /// - Parameters:
    ///   - ring: may have opened other images before.
    ///   - isSealed: no secret is used. Where the data of the disks lies can be told; what is encrypted cannot be read.
    package init(_ options: OpeningOptions, ring: SecretRing, log: OpeningLog, isSealed: Bool = false) {
        self.isSealed = isSealed
        self.options = options
        self.ring = ring
        self.log = log
    }

    /// Opens everything in an image that the options ask for. It is read from any thread, as long as somebody holds its disks.
    /// - Returns: the default disk first.
    public func disks() throws(OpeningError) -> [OpenDisk] { try disks(of: image()) }

    /// Opens the files of an image, and needs no secret.
    package func image() throws(OpeningError) -> OpenImage {
        let image = try OpenImage(options, secrets: ring.names, log: log)
        // Where a file is missing, that is told instead.
        if image.breakage == nil { try ring.check(image.name, layers: image.layers.map(\.name)) }
        return image
    }

    /// Opens everything in an image.
    package func disks(of image: OpenImage) throws(OpeningError) -> [OpenDisk] {
        do {
            let opener = ImageOpener(options: options, ring: ring, log: log, isSealed: isSealed)
            // The ciphertext of a container in a file is the file.
            let isFileAlone =
                options.selection.names == .listed(["ciphertext"]) && image.luksHeader == nil && image.format == .luks
                && !options.selection.isPart
            var layer =
                isFileAlone
                ? ImageLayer(
                    name: options.name, format: .raw, encryption: nil, disk: image.source.device, below: [],
                    snapshots: [])
                : try opener.open(image)
            switch options.overlay {
            case .scratch(let directory)?: try layer.putOverlay(in: directory, log: log)
            case .file(let path)?:
                guard !isFileAlone else {
                    throw OpeningError(
                        .usage,
                        "\(options.name): \(remedy: .overlayFile) is for the decrypted disk, and not with the ciphertext alone"
                    )
                }
                try layer.putOverlay(image.overlay, at: path, over: image, opener)
            case nil: break
            }
            var disks = try DiskFinder(
                options: options, opener: opener, source: image.source, layer: layer, log: log
            ).disks()
            if let remedy = options.writing { try Self.letWrite(&disks, options.name, without: remedy) }
            ring.warnIfUnused()
            return disks
        } catch {
            throw OpeningError(opening: error, image: options.name)
        }
    }

    /// One way to change a disk: through another, a half sector of what this one writes could be lost.
    ///
    /// - Parameter remedy: what was asked for, when there is nothing to change.
    private static func letWrite(
        _ disks: inout [OpenDisk], _ image: String, without remedy: Remedy
    ) throws(OpeningError) {
        let chosen = disks.firstIndex { $0.name.isEmpty } ?? 0
        guard disks[chosen].device.isWritable else {
            throw OpeningError(
                .usage, "\(image): \(disks[chosen].description) cannot be written to; leave out \(remedy: remedy)")
        }
        for index in disks.indices where index != chosen { disks[index] = disks[index].readOnly }
    }
}

/// A disk under the name that it has within its image.
public struct OpenDisk {
    /// "" for the default one, else e.g. "partition/1".
    public let name: String
    /// For people, e.g. "qcow2, AES-128, decrypted".
    public let description: String
    /// Takes requests of any offset and length, on any thread.
    public let device: any BlockDevice
    /// Of the whole device.
    public internal(set) var bitmaps: [Qcow2Bitmap] = []
    /// The part with the LUKS container that it was decrypted from, or would be.
    var container: DiskPart?
    /// That container, for people; nil when the disk comes out of none, or out of one that is a whole file.
    package var containerName: String? { container?.fullName }

    /// The same for readers.
    var readOnly: OpenDisk {
        OpenDisk(
            name: name, description: description, device: device.isWritable ? ReadOnlyView(device) : device,
            bitmaps: bitmaps, container: container)
    }

    /// The same under another name.
    func named(_ name: String) -> OpenDisk {
        OpenDisk(name: name, description: description, device: device, bitmaps: bitmaps, container: container)
    }
}
