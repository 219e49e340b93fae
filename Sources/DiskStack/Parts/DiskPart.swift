// SPDX-License-Identifier: Apache-2.0

package import BlockIO
import ImageFormats

/// A part of a disk that may hold something that is not to be served as it is: the disk of a guest, a snapshot of it, a
/// partition, a window, a logical volume.
package struct DiskPart {
    /// The name of its export: "" for the default one, else e.g. "partition/1".
    package let exportName: String
    /// What kind of a part it is, e.g. "partition".
    package let noun: String
    /// For messages about the image, e.g. "partition 1".
    package let name: String
    /// The image, as a person typed it.
    package let image: String
    /// For clients, e.g. "Linux filesystem".
    package let description: String
    /// Takes requests of any offset and length.
    package let device: any BlockDevice

    /// For messages that do not name the image otherwise.
    package var fullName: String { "\(name) of \(image)" }

    /// What it is, for a report.
    package var title: String { description.contains(name) ? description : "\(name), \(description)" }

    /// As it is.
    package var disk: OpenDisk { OpenDisk(name: exportName, description: description, device: device) }
}

/// Opens what lies in a part of a disk: the one place that decides whether a part is decrypted, refused or served as it is.
struct DiskPartOpener {
    typealias Disk = OpenDisk

    let opener: ContainerOpener
    /// Finds the parts.
    let selection: PartSelection
    let log: OpeningLog

    /// How much somebody wants what is in a part.
    enum Demand {
        /// Named: what cannot be opened is an error, and a person may be asked for a passphrase.
        case named
        /// One of all that there is: what no secret opens is served as it is, with a warning.
        case offered
        /// As it is, encrypted or not.
        case ciphertext
    }

    /// Warns of a part that looks like an image, none of which is opened inside a disk; with a secret at hand, it is refused.
    ///
    /// - Throws: ``FormatError``.
    func checkNotAnImage(_ part: DiskPart) throws(FormatError) {
        guard let looks = FormatDecision.looksLikeImage(part) else { return }
        guard let secrets = opener.ring.names else {
            log.warning("\(part.image): \(looks), and is taken as it is")
            return
        }
        throw .unsupported(
            "\(looks), and \(secrets) is given to decrypt it; only LUKS is decrypted inside a disk: copy it into a file of its "
                + "own, without the secret, and open that")
    }

    /// The disk in the container that a part holds; the part itself when it holds none.
    ///
    /// - Throws: ``FormatError`` for a container that is damaged or of no use alone, and when the start of the part cannot be
    ///   read; ``OpeningError`` when no secret fits.
    func disk(in part: DiskPart, _ demand: Demand) throws -> Disk {
        guard demand != .ciphertext else {
            var disk = part.disk
            if (try? ImageProbe.holdsLUKS(part.device)) == true { disk.container = part }
            return disk
        }
        guard try holdsContainer(part) else { return part.disk }
        do {
            let (device, encryption) = try opener.open(
                on: part.device, part.fullName, mayAsk: demand == .named)
            return Disk(
                name: part.exportName, description: "\(encryption), decrypted, in \(part.description)",
                device: device, container: part)
        } catch let failure as OpeningError where demand == .offered && failure.isOfSecret {
            log.warning("\(failure); the \(part.noun) is taken as it is")
            return Disk(
                name: part.exportName, description: "\(part.description), LUKS, not decrypted", device: part.device,
                container: part)
        } catch let error as FormatError {
            throw error.naming(part.name)
        }
    }

    /// Is there a container to open? One that something else was written over is told of, and left alone.
    ///
    /// - Throws: ``FormatError`` for the header of an encrypted Ceph clone, and when the start cannot be read.
    func holdsContainer(_ part: DiskPart) throws(FormatError) -> Bool {
        switch try ImageProbe.findLUKS(part.device) {
        case .container: return true
        case .encryptedClone: throw ImageProbe.encryptedClone.naming(part.name)
        case .leftover(let contents):
            log.warning(
                "\(part.image): \(part.name) begins with \(contents), and is taken as it is; a second copy of a LUKS2 header is left on it, which is ignored"
            )
            return false
        case .none: return false
        }
    }
}
