// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The header extensions of a qcow2 image.
///
/// Source: qcow2 specification, "Header extensions". Unknown ones are skipped, as the specification asks.
public struct Qcow2Extensions: Equatable, Sendable {
    /// "Backing file format name" (0xE2792ACA).
    public private(set) var backingFormat: String?
    /// "External data file name string" (0x44415441).
    public private(set) var dataFile: FileReference?
    /// "Full disk encryption header pointer" (0x0537be77): where in the file the LUKS header is.
    public private(set) var luksHeader: LUKSHeader?
    /// "Feature name table" (0x6803f857).
    public private(set) var featureNames: [FeatureName] = []
    /// "Bitmaps extension" (0x23852875), not decoded: it may be out of date, and must not keep a disk from being read.
    public private(set) var bitmaps: Bitmaps?

    /// Does the image say that it has bitmaps?
    public var hasBitmaps: Bool { bitmaps != nil }

    /// The bitmaps extension as it is in the file; see ``Qcow2Bitmap/all(of:_:cache:)``.
    public struct Bitmaps: Equatable, Sendable {
        /// Where in the file its data starts.
        let place: UInt64
        /// How long it is, in bytes.
        let length: Int
        /// The first bytes of it.
        let data: [UInt8]

        /// How long it must be.
        static let fixedLength = 24
    }

    /// One entry of the feature name table.
    public struct FeatureName: Equatable, Sendable {
        /// 0 incompatible, 1 compatible, 2 autoclear.
        public let set: UInt8
        /// 0 is the least significant one.
        public let bit: Int
        /// Printable text.
        public let name: String
    }

    /// A place in the image file, in bytes.
    public struct LUKSHeader: Equatable, Sendable {
        /// From the start of the file.
        public let offset: UInt64
        /// How long the area is.
        public let length: UInt64
    }

    /// Decodes the extension area.
    ///
    /// - Parameters:
    ///   - area: from the end of the header to the backing file name or the end of the first cluster.
    ///   - offset: where in the file the area starts, for messages.
    init(area: [UInt8], at offset: UInt64) throws(FormatError) {
        var reader = ByteReader(area)
        while let type = reader.integer(UInt32.self), type != 0 {
            let place = offset + UInt64(area.count - reader.remaining) - 4
            let name = "qcow2 header extension 0x\(String(type, radix: 16))"
            guard let length = reader.integer(UInt32.self), let data = reader.take(Int(length)) else {
                throw .damaged(
                    name, at: place, found: "a length beyond the extension area", allowed: "at most \(reader.remaining)"
                )
            }
            // Extensions are padded to a multiple of 8 bytes; the last one may lack its padding.
            _ = reader.take(min((8 - Int(length) % 8) % 8, reader.remaining))
            try decode(type, Array(data), name, place)
        }
    }

    private mutating func decode(
        _ type: UInt32, _ data: [UInt8], _ name: String, _ place: UInt64
    ) throws(FormatError) {
        switch type {
        case 0xE279_2ACA: backingFormat = ShownText.name(data)
        case 0x4441_5441: dataFile = Self.reference(data)
        case 0x2385_2875:
            bitmaps = Bitmaps(
                place: place + 8, length: data.count, data: Array(data.prefix(Bitmaps.fixedLength)))
        case 0x6803_F857:
            var reader = ByteReader(data)
            while let entry = reader.take(48) {
                let bytes = Array(entry)
                featureNames.append(
                    FeatureName(
                        set: bytes[0], bit: Int(bytes[1]), name: ShownText.printable(field: bytes[2...])))
            }
        case 0x0537_BE77:
            var reader = ByteReader(data)
            guard data.count == 16, let offset = reader.integer(UInt64.self), let length = reader.integer(UInt64.self)
            else {
                throw .damaged(name, at: place, found: "\(data.count) bytes", allowed: "16 bytes")
            }
            luksHeader = LUKSHeader(offset: offset, length: length)
        default: break
        }
    }

    /// A name that may be opened, which is not more than 1023 bytes for QEMU.
    static func reference(_ bytes: [UInt8]) -> FileReference {
        FileReference(bytes: bytes, shown: ShownText.name(bytes))
    }
}
