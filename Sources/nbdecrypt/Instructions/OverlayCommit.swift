// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import ImageFormats

/// The command that brings the changes in the file of an overlay into the image.
struct OverlayCommit {
    let command: String

    /// Nil when there is no such file.
    init?(_ options: OpeningOptions, _ image: OpenImage) {
        guard case .file(let path)? = options.overlay else { return nil }
        let commands = OverlayCommands(path, of: image)
        if let commit = commands.commit {
            command = commit
            return
        }
        // What is said of the format has the disk served, and not what is on it.
        var remedies: [Remedy] = [.writable, .format(image.format.rawValue)]
        if let header = options.luksHeader {
            remedies.append(.luksHeader(path: header.name))
            // The container is there, and the overlay lies over its plaintext.
            if let number = options.selection.partition { remedies.append(.partition(number)) }
            if let offset = options.selection.offset { remedies.append(.offset(offset)) }
            if let size = options.selection.size { remedies.append(.size(size)) }
        }
        command =
            "nbdecrypt serve\(remedies.arguments) \(ShellText.fileArgument(image.name)) --run "
            + ShellText.quoted(commands.commitThroughServer)
    }
}
