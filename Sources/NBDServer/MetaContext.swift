// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// A way to look at an export: what `NBD_CMD_BLOCK_STATUS` tells of it.
///
/// Source: NBD specification, "Metadata querying"; QEMU's docs/interop/nbd.txt for the namespace "qemu".
enum MetaContext: Sendable {
    /// "base:allocation": which bytes are holes, and which are known to be zeros.
    case allocation
    /// "qemu:allocation-depth": which layer of a chain of images holds the bytes.
    case depth
    /// "qemu:dirty-bitmap:NAME": what has changed since some point in time.
    case dirtyBitmap(any DirtyBitmap)

    /// As clients ask for it.
    var name: String {
        switch self {
        case .allocation: "base:allocation"
        case .depth: "qemu:allocation-depth"
        case .dirtyBitmap(let bitmap): "qemu:dirty-bitmap:\(bitmap.name)"
        }
    }

    /// Does a query of `NBD_OPT_LIST_META_CONTEXT` ask for it? A namespace without a name asks for all that is in it.
    func isListed(by queries: Set<String>) -> Bool {
        switch self {
        case .allocation: queries.contains(name) || queries.contains("base:")
        case .depth: queries.contains(name) || queries.contains("qemu:")
        case .dirtyBitmap:
            queries.contains(name) || queries.contains("qemu:") || queries.contains("qemu:dirty-bitmap:")
        }
    }

    /// The status of the bytes of `device` from `offset` on, as far as one look tells.
    ///
    /// - Parameter limit: in bytes; more than 0.
    private func look(
        _ device: any BlockDevice, at offset: UInt64, limit: UInt64, _ mode: ReadMode
    ) throws(BlockError) -> StatusExtent {
        switch self {
        case .allocation:
            let extent = try device.extent(at: offset, limit: limit, mode)
            return StatusExtent(length: extent.length, flags: Self.flags(extent.kind))
        case .depth:
            let extent = try device.extent(at: offset, limit: limit, mode)
            return StatusExtent(length: extent.length, flags: extent.depth)
        case .dirtyBitmap(let bitmap):
            let run = try bitmap.run(at: offset, limit: limit, mode)
            return StatusExtent(length: run.length, flags: run.isDirty ? 1 : 0)
        }
    }

    private static func flags(_ kind: Extent.Kind) -> UInt32 {
        switch kind {
        case .data, .compressed: 0
        case .zero, .unallocated: NBDProtocol.StatusFlags.hole | NBDProtocol.StatusFlags.zero
        case .storedZeros: NBDProtocol.StatusFlags.zero
        }
    }

    /// The status of a range, from its start on; neighbours differ.
    ///
    /// - Parameters:
    ///   - range: within the device; not empty.
    ///   - maximumCount: of extents.
    ///   - mode: when its budget is spent the answer ends before the range does. One look is allowed always, if it may wait.
    /// - Returns: at least one extent.
    /// - Throws: ``BlockError/wouldBlock`` only when `mode` does not allow to wait: then nothing is known that a client
    ///   would have to ask on from.
    func status(
        of device: any BlockDevice, _ range: ByteRange, maximumCount: Int, _ mode: ReadMode
    ) throws(BlockError) -> [StatusExtent] {
        var extents: [StatusExtent] = []
        var position = range.offset
        while position < range.end {
            let limit = range.end - position
            let extent: StatusExtent
            do throws(BlockError) {
                try mode.look()
                extent = try look(device, at: position, limit: limit, mode)
            } catch  where error.code == .wouldBlock && mode.mayWait && extents.isEmpty {
                extent = try look(device, at: position, limit: limit, .mayBlock)
            } catch {
                // What is known so far is an answer; the client asks on from there and gets the error.
                guard extents.isEmpty || !mode.mayWait && error.code == .wouldBlock else { return extents }
                throw error
            }
            if let last = extents.last, last.flags == extent.flags {
                extents[extents.count - 1].length += extent.length
            } else {
                guard extents.count < maximumCount else { break }
                extents.append(extent)
            }
            position += extent.length
        }
        return extents
    }
}
