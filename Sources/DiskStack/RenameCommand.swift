// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import SystemPackage

/// Commands of qemu-img that give an image another name for a file that it stands on, for messages.
///
/// They are complete but for the passphrase of an encrypted image, without which QEMU changes nothing in it.
struct RenameCommand {
    /// What names the file.
    private let image: String
    /// QEMU may not reach what is far away by the same name.
    private let isFile: Bool
    private let kind: ImageChain.Kind
    /// Is it the external data file, or the backing file?
    private let isData: Bool

    /// - Parameter source: the image that names the file.
    init(_ source: OpenSource, _ kind: ImageChain.Kind, isData: Bool) {
        switch source.place {
        case .directory(let place, _):
            image = (place.path.isRelative ? FileReferences.absolute(place.path) : place.path).string
            isFile = true
        case .beside: (image, isFile) = (source.name, false)
        }
        self.kind = kind
        self.isData = isData
    }

    /// What to do about a name that is not followed.
    ///
    /// - Parameters:
    ///   - name: as the image has it.
    ///   - said: the format of the file, as the image says it.
    func advice(_ help: ReferenceName.Help, name: FileReference, said: String?) -> String {
        guard isFile else { return "copy the image to a file, and give it another name there" }
        if case .qcow = kind {
            return "make a copy that stands alone: \(standAlone)"
        }
        guard !isData else { return "give it a plain name: \(amend("NAME"))" }
        switch help {
        case .rename(let path, let format):
            return "name it plainly: \(rebase(to: path, format: said ?? format))"
        case .copy where name.bytes.elementsEqual(name.shown.utf8):
            let copy = "\(image).base"
            return "if the image is to be trusted, copy the file and name the copy: qemu-img convert "
                + (said.map { "-f \(quoted($0)) " } ?? "") + "-O qcow2 \(quoted(name.shown)) \(quoted(copy)) && "
                + rebase(to: copy.split(separator: "/").last.map(String.init) ?? copy, format: "qcow2")
        case .copy, .newName:
            return "rename the file, and name it so in the image: \(rebase(to: "NAME", format: said ?? "FORMAT"))"
        }
    }

    /// What gives an image another name for a file, of the format `said`; nil when QEMU does not do that.
    func otherName(said: String?) -> String? {
        if case .qcow = kind { return nil }
        guard isFile else { return nil }
        return
            "name another file in the image: \(isData ? amend("NAME") : rebase(to: "NAME", format: said ?? "FORMAT"))"
    }

    /// What gives the image another name for its backing file.
    func rebase(to name: String, format: String?) -> String {
        let format = format.map { "-F \(quoted($0)) " } ?? ""
        // What looks like an option or a protocol to QEMU is none behind a directory.
        return "qemu-img rebase -u \(format)-b \(quoted(name.hasPrefix("/") ? name : "./\(name)")) \(opened())"
    }

    /// QEMU opens an image to change it, and needs to be told where the data file is.
    private func amend(_ name: String) -> String {
        "qemu-img amend -o data_file=\(name) \(opened(with: ",data-file.driver=file,data-file.filename=\(name)"))"
    }

    /// For qcow version 1, in which QEMU changes no names.
    private var standAlone: String {
        "qemu-img convert -O qcow2 \(opened()) \(quoted("\(image).qcow2"))"
    }

    /// The image, for qemu-img.
    /// - Parameter more: what QEMU must be told besides, each after a comma.
    private func opened(with more: String = "") -> String {
        let isEncrypted =
            switch kind {
            case .raw, .luks: false
            case .qcow(let header): header.encryption != .none
            case .qcow2(let header): header.encryption != .none
            }
        let driver = kind.format.rawValue
        guard isEncrypted || !more.isEmpty else { return "-f \(driver) \(quoted(image))" }
        let secret = isEncrypted ? ",encrypt.key-secret=key" : ""
        let options = "driver=\(driver)\(secret)\(more),file.driver=file,file.filename=\(QEMUOption.value(image))"
        return (isEncrypted ? "--object secret,id=key,file=PASSPHRASE-FILE " : "") + "--image-opts \(quoted(options))"
    }

    private func quoted(_ text: String) -> String { ShellText.quoted(text) }
}
