// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A run of extents of a logical volume that are stored in the same way.
struct LVMSegment: Sendable {
    /// Extents of a physical volume.
    struct Area: Sendable {
        /// The name of the physical volume in its group; or of a logical volume, on which this one lies then.
        let holder: String
        let firstExtent: UInt64
    }

    /// How the extents are stored.
    enum Kind: Sendable {
        /// One area, or several of the same length in chunks of so many bytes that take turns.
        case striped([Area], chunk: UInt64)
        /// In some way that is not read.
        case other(type: String)
    }

    /// Of the logical volume.
    let firstExtent: UInt64
    let extentCount: UInt64
    let kind: Kind

    /// LVM has no more.
    static let maximumStripes: UInt64 = 128

    /// - Parameter extentSize: in bytes.
    init(_ fields: LVMFields, extentSize: UInt64) throws(FormatError) {
        firstExtent = try fields.integer("start_extent", in: 0...UInt64(UInt32.max))
        extentCount = try fields.integer("extent_count", in: 1...UInt64(UInt32.max))
        let type = try fields.string("type")
        // Later versions put "+" and a flag behind a type that they have changed.
        guard type == "striped" || type == "linear" else {
            kind = .other(type: type)
            return
        }
        let stripes = try fields.integer("stripe_count", in: 1...Self.maximumStripes)
        let areas = try Self.areas(fields, count: Int(stripes))
        guard stripes > 1 else {
            kind = .striped(areas, chunk: 0)
            return
        }
        let chunk = 512 * (try fields.integer("stripe_size", in: 1...UInt64(UInt32.max)))
        let (extents, isUneven) = extentCount.quotientAndRemainder(dividingBy: stripes)
        // Both fit: an extent has at most 2^32 sectors, and there are as many extents.
        let (length, isTooLong) = extents.multipliedReportingOverflow(by: extentSize)
        guard isUneven == 0, !isTooLong, length % chunk == 0 else {
            throw fields.fault(
                "extent_count", found: "\(extentCount) in \(stripes) stripes",
                allowed: "as many for each, of whole chunks of \(chunk) bytes")
        }
        kind = .striped(areas, chunk: chunk)
    }

    /// In the text, names and numbers take turns.
    private static func areas(_ fields: LVMFields, count: Int) throws(FormatError) -> [Area] {
        let values = try fields.list("stripes")
        guard values.count == 2 * count else {
            throw fields.fault("stripes", found: "\(values.count) values", allowed: "\(2 * count)")
        }
        var areas: [Area] = []
        for index in stride(from: 0, to: values.count, by: 2) {
            guard case .string(let holder) = values[index], case .integer(let extent) = values[index + 1],
                extent <= UInt64(UInt32.max)
            else {
                throw fields.fault("stripes", found: "other values", allowed: "names and numbers of extents in turns")
            }
            areas.append(Area(holder: holder, firstExtent: extent))
        }
        return areas
    }

    /// How many extents an area has; 0 for what is not read.
    var areaExtentCount: UInt64 {
        guard case .striped(let areas, _) = kind, !areas.isEmpty else { return 0 }
        return extentCount / UInt64(areas.count)
    }
}
