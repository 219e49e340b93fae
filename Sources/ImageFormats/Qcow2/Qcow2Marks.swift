// SPDX-License-Identifier: Apache-2.0

extension Qcow2Header {
    /// What the marks mean that QEMU leaves in an image that may not be in order, a sentence for each, with what to do.
    public var marks: [String] {
        let check = QEMUImageCommand.text("qemu-img check -r all", isEncrypted: encryption != .none)
        var marks: [String] = []
        if features.contains(.dirty) {
            marks.append(
                "the image has its dirty bit set: it was not closed properly, and its reference counts may be behind, which "
                    + "reading does not need; \(check) repairs them, in a copy")
        }
        if features.contains(.corrupt) {
            marks.append(
                "the image has its corrupt bit set: QEMU found tables that cannot be right, and does not write to it since; "
                    + "what is read may be wrong: compare it with a backup; \(check) repairs the tables, though "
                    + "no data, and takes the mark away, in a copy")
        }
        return marks
    }
}
