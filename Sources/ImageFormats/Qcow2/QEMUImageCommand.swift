// SPDX-License-Identifier: Apache-2.0

/// A command of qemu-img or another program of QEMU on a qcow or qcow2 image, for messages.
///
/// QEMU opens an encrypted image for nothing without its secret, not even to look at the metadata, which is not encrypted.
enum QEMUImageCommand {
    /// E.g. "qemu-img check -r leaks IMAGE".
    ///
    /// - Parameters:
    ///   - command: the program with its command and options.
    ///   - driver: the format of the image, by QEMU's name.
    ///   - operands: what comes after the image, quoted for the shell.
    ///   - options: more of what QEMU must know to open it.
    static func text(
        _ command: String, _ operands: String = "", driver: String = "qcow2", isEncrypted: Bool, options: String = ""
    ) -> String {
        var words = [command]
        if isEncrypted { words.append("--object secret,id=key,file=PASSPHRASE-FILE") }
        if isEncrypted || !options.isEmpty {
            let all = ["driver=\(driver)", isEncrypted ? "encrypt.key-secret=key" : "", options, "file.filename=IMAGE"]
            words.append("--image-opts \(all.filter { !$0.isEmpty }.joined(separator: ","))")
        } else {
            words.append("-f \(driver) IMAGE")
        }
        if !operands.isEmpty { words.append(operands) }
        return "`\(words.joined(separator: " "))`"
    }
}
