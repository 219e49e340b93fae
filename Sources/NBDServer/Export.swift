// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A disk under a name that clients ask for.
public struct Export: Sendable {
    /// At most 4096 bytes; the empty name is the default export.
    public let name: String
    /// A sentence for people, shown by `nbdinfo` and `nbd-client -l`; at most 4096 bytes.
    public let description: String
    /// Accepts reads of any offset and length: its alignment is 1.
    public let device: any BlockDevice

    /// `name` and `description` are at most 4096 bytes; `device` has alignment 1.
    public init(name: String, description: String, device: any BlockDevice) {
        precondition(device.alignment == 1)
        self.name = name
        self.description = description
        self.device = device
    }

    /// Transmission flags. Many connections are safe: nobody can change anything.
    var flags: UInt16 {
        typealias Flags = NBDProtocol.TransmissionFlags
        return Flags.hasFlags | Flags.readOnly | Flags.sendFlush | Flags.canMultiConn
    }

    /// What a client should keep to, for `NBD_INFO_BLOCK_SIZE`, in bytes. Twice the maximum is answered as well.
    static let blockSizes = (minimum: UInt32(1), preferred: UInt32(4096), maximum: UInt32(32 << 20))
}

/// All exports of a server.
public struct ExportTable: Sendable {
    let exports: [Export]

    /// - Parameter exports: at least one; the first is what a client gets that asks for the default.
    public init(_ exports: [Export]) {
        precondition(!exports.isEmpty)
        self.exports = exports
    }

    /// The export of this name; the empty name finds the first export when none has it.
    func find(_ name: String) -> Export? {
        exports.first { $0.name == name } ?? (name.isEmpty ? exports[0] : nil)
    }
}
