// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats
package import SystemPackage

/// Commands of qemu-img for the file of an overlay, complete but for the files of secrets, of which QEMU takes all bytes.
package struct OverlayCommands {
    private let path: String
    private let image: OpenImage

    /// - Parameter path: of the overlay.
    package init(_ path: FilePath, of image: OpenImage) {
        self.path = path.string
        self.image = image
    }

    /// The name that an overlay has in its header for its image: the same from every directory.
    static func nameInHeader(_ image: OpenSource) -> String {
        image.isFile ? FileReferences.absolute(FilePath(image.name)).string : image.name
    }

    /// Makes an overlay that is empty.
    ///
    /// - Parameter size: of the disk, in bytes.
    func make(size: UInt64) -> String {
        // See commitThroughServer.
        let backing =
            options == nil
            ? ""
            : "-u -F \(image.format.rawValue) -b \(ShellText.quoted(Self.nameInHeader(image.source))) "
        return "qemu-img create -f qcow2 --object secret,id=overlay,file=OVERLAY-SECRET "
            + "-o encrypt.format=luks,encrypt.key-secret=overlay \(backing)\(ShellText.fileArgument(path)) \(size)"
    }

    /// Brings the changes into the image and empties the overlay; nil for an image that QEMU does not read.
    package var commit: String? {
        guard let options else { return nil }
        let secret =
            options.contains { $0.hasSuffix("key-secret=image") } ? "--object secret,id=image,file=IMAGE-SECRET " : ""
        return "qemu-img commit \(secret)\(overlay(options))"
    }

    /// The same for any image, as a shell command of a server that lets it write to the image: it finds the socket of the server
    /// in $unixsocket.
    package var commitThroughServer: String {
        // Where the header names a backing file, QEMU takes no other that has no file name.
        let forgetting = image.overlay?.header.backingFile == nil ? "" : "qemu-img rebase -u -b '' \(overlay([])) && "
        return forgetting + "qemu-img commit "
            + overlay(["backing.driver=raw", "backing.file.driver=nbd", "backing.file.server.type=unix"])
            + ",backing.file.server.path=\"$unixsocket\""
    }

    private func overlay(_ backing: [String]) -> String {
        let options =
            ["driver=qcow2", "file.filename=\(QEMUOption.value(path))", "encrypt.key-secret=overlay"] + backing
        return "--object secret,id=overlay,file=OVERLAY-SECRET --image-opts "
            + ShellText.quoted(options.joined(separator: ","))
    }

    /// How QEMU opens the image below an overlay; nil when it does not.
    private var options: [String]? {
        guard image.luksHeader == nil, !image.isFar else { return nil }
        var options = [
            "backing.driver=\(image.format.rawValue)", "backing.file.filename=\(QEMUOption.value(image.name))",
        ]
        var prefix = ""
        for link in image.chain.links {
            prefix += "backing."
            switch link.kind {
            case .raw: break
            case .luks:
                guard (try? LUKSOpener.header(link.source.device, dataSize: nil, isDetached: true))?.version == 1 else {
                    return nil
                }
                options.append("\(prefix)key-secret=image")
            case .qcow(let header):
                if header.encryption != .none { options.append("\(prefix)encrypt.key-secret=image") }
            case .qcow2(let header):
                if header.encryption != .none { options.append("\(prefix)encrypt.key-secret=image") }
            }
        }
        return options
    }
}
