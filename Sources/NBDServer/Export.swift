// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A disk under a name that clients ask for.
public struct Export: Sendable {
    /// At most 4096 bytes; the empty name is the default export.
    public let name: String
    /// A sentence for people, shown by `nbdinfo` and `nbd-client -l`; at most 4096 bytes.
    public let description: String
    /// Its alignment is the minimum block size, which clients must keep to.
    public let device: any BlockDevice
    /// Where requests wait for the device; nil: with those of files.
    let lane: Lane?
    /// Who wants to know what clients do with it; nobody, as a rule.
    public let observers: [any ExportObserver]
    /// What `NBD_CMD_BLOCK_STATUS` can tell.
    let contexts: [MetaContext]

    /// `name` and `description` are at most 4096 bytes; the size of `device` is a multiple of its alignment.
    ///
    /// - Parameters:
    ///   - bitmaps: of the whole device, with different names.
    ///   - lane: of the source that makes the device wait longest, for exports that share it; nil: a lane of its own for a
    ///     device that likes more under way at once than a file does, or that of all files.
    ///   - observers: are told what clients do with it.
    public init(
        name: String, description: String, device: any BlockDevice, bitmaps: [any DirtyBitmap] = [], lane: Lane? = nil,
        observers: [any ExportObserver] = []
    ) {
        precondition(device.size % UInt64(device.alignment) == 0)
        self.name = name
        self.description = description
        self.device = device
        self.observers = observers
        self.lane = lane ?? (device.depth > Lane.filesWidth ? Lane(name: name, width: device.depth) : nil)
        self.contexts = [.allocation, .depth] + bitmaps.map(MetaContext.dirtyBitmap)
    }

    /// Transmission flags.
    ///
    /// - Parameter offersMore: there is room for more connections of the client. They are safe: nobody can change anything, or
    ///   all see what one has changed.
    func flags(_ mode: ReplyMode, offersMore: Bool = true) -> NBDProtocol.TransmissionFlags {
        var flags: NBDProtocol.TransmissionFlags = [.hasFlags, .sendFlush, .sendCache]
        if offersMore { flags.insert(.canMultiConn) }
        if device.isWritable {
            flags.formUnion([.sendFUA, .sendTrim, .sendWriteZeroes, .sendFastZero])
        } else {
            flags.insert(.readOnly)
        }
        if mode != .simple { flags.insert(.sendDF) }
        if mode == .extended { flags.insert(.blockStatusPayload) }
        return flags
    }

    /// What offsets and lengths must be multiples of, in bytes; 1 for almost every export.
    var minimumBlockSize: UInt32 { UInt32(device.alignment) }
    /// What they should be multiples of, in bytes.
    var preferredBlockSize: UInt32 { max(4096, minimumBlockSize) }
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
        // By bytes: two names that only look the same are two exports.
        exports.first { $0.name.utf8.elementsEqual(name.utf8) } ?? (name.isEmpty ? exports[0] : nil)
    }
}
