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
        if header.features.contains(.externalDataFile) {
            let name = header.extensions.dataFileName.map { " (\($0))" } ?? ""
            throw refused("keeps its data in an external data file\(name)")
        }
        if let name = header.backingFileName {
            throw refused("has a backing file (\(name))")
        }
        if header.features.contains(.extendedL2) {
            throw refused("has extended L2 entries (subclusters)")
        }
        if header.snapshotCount > 0 {
            throw .unsupported(
                "the image holds internal snapshots (\(header.snapshotCount)), which this version of nbdecrypt does "
                    + "not read; list them with qemu-img snapshot -l, delete them in a copy with qemu-img snapshot -d")
        }
    }

    private static func refused(_ reason: String) -> FormatError {
        .unsupported(
            "the image \(reason), which this version of nbdecrypt does not read; "
                + "make a copy that stands alone with qemu-img convert first")
    }
}
