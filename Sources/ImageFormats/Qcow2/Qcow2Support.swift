// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// What of qcow2 this program reads.
public enum Qcow2Support {
    /// Refuses, by name, every image that could not be read in full.
    ///
    /// - Throws: ``FormatError`` with code `unsupported`: one sentence that says what the image uses and what to do.
    public static func check(_ header: Qcow2Header) throws(FormatError) {
        let unknown = header.features.unknownIncompatibleBits
        guard unknown.isEmpty else {
            let names = unknown.map { Qcow2Features.name(.incompatible, $0, header.extensions.featureNames) }
            throw .unsupported(
                "the image needs features that nbdecrypt does not know: \(names.joined(separator: ", ")); "
                    + "convert it with the program that made it")
        }
        guard !header.features.contains(.externalDataFile) || header.extensions.dataFile != nil else {
            let command = QEMUImageCommand.text(
                "qemu-img amend -o data_file=NAME", isEncrypted: header.encryption != .none,
                options: "data-file.driver=file,data-file.filename=NAME")
            throw .unsupported(
                "the image keeps its data in an external data file, but does not name it; give it a name, in a copy, with \(command)"
            )
        }
    }
}
