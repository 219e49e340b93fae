// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// What of qcow2 this program reads and writes.
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

    /// Refuses, by name, every image that is not written to.
    ///
    /// - Parameter isRepaired: ``Qcow2Repair`` has the image before.
    /// - Throws: ``FormatError`` with code `unsupported`: one sentence that says why, and what to do.
    public static func checkWritable(_ header: Qcow2Header, isRepaired: Bool = false) throws(FormatError) {
        try checkRepairable(header)
        if header.features.contains(.dirty), !isRepaired {
            throw .unsupported(
                "the image has its dirty bit set: it was not closed properly, and its reference counts may be behind, so that "
                    + "writing would destroy data; \(remedy: .repair) rebuilds them before, or open it read-only")
        }
    }

    /// Refuses, by name, every image that ``Qcow2Repair`` does not touch.
    ///
    /// - Throws: ``FormatError`` with code `unsupported`, as ``checkWritable(_:)`` does.
    static func checkRepairable(_ header: Qcow2Header) throws(FormatError) {
        try check(header)
        let check = QEMUImageCommand.text("qemu-img check -r all", isEncrypted: header.encryption != .none)
        if header.features.contains(.corrupt) {
            throw .unsupported(
                "the image has its corrupt bit set: its tables cannot be right, and writing would destroy more; open it "
                    + "read-only and copy what is left, or \(check) repairs the tables, though no data")
        }
    }
}
