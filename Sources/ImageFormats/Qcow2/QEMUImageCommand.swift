// SPDX-License-Identifier: Apache-2.0

/// A command of qemu-img on a qcow2 image, for messages.
///
/// QEMU opens an encrypted image for nothing without its secret, not even to look at the metadata, which is not encrypted.
enum QEMUImageCommand {
    /// E.g. "qemu-img check -r leaks IMAGE".
    ///
    /// - Parameters:
    ///   - arguments: the name of the command and its options.
    ///   - operands: what comes after the image, quoted for the shell.
    ///   - options: more of what QEMU must know to open it.
    static func text(
        _ arguments: String, _ operands: String = "", isEncrypted: Bool, options: String = ""
    ) -> String {
        var words = ["qemu-img \(arguments)"]
        if isEncrypted { words.append("--object secret,id=key,file=PASSPHRASE-FILE") }
        if isEncrypted || !options.isEmpty {
            let all = ["driver=qcow2", isEncrypted ? "encrypt.key-secret=key" : "", options, "file.filename=IMAGE"]
            words.append("--image-opts \(all.filter { !$0.isEmpty }.joined(separator: ","))")
        } else {
            words.append("-f qcow2 IMAGE")
        }
        if !operands.isEmpty { words.append(operands) }
        return "`\(words.joined(separator: " "))`"
    }

    /// For the shell.
    static func quoted(_ text: String) -> String { "'\(text.replacing("'", with: "'\\''"))'" }
}
