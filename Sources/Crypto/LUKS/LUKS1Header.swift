// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The header of a LUKS1 volume, checked.
///
/// Source: LUKS1 On-Disk Format Specification 1.2.3, figure 1. All integers are big-endian, all places are sectors of
/// 512 bytes. What is checked is what cryptsetup and QEMU both insist on; see docs/formats/luks.md.
struct LUKS1Header {
    let volume: LUKSVolume

    static let length = 592
    private static let slotCount = 8
    private static let slotLength = 48
    private static let firstSlot: UInt64 = 208
    private static let active: UInt32 = 0x00AC_71F3
    private static let inactive: UInt32 = 0x0000_DEAD
    private static let sector: UInt64 = 512
    /// Into how many parts a key is split.
    static let stripes: UInt32 = 4000

    /// Reads the header of a device that starts with its magic.
    init(_ device: any BlockDevice, _ surroundings: LUKSSurroundings) throws(LUKSFault) {
        guard device.size >= UInt64(Self.length) else {
            throw LUKSFault(
                "LUKS1 header", at: 0, found: "\(device.size) bytes", allowed: "at least \(Self.length)",
                advice: Self.headerCutAdvice)
        }
        var reader = ByteReader(try readLUKS(device, at: 0, count: Self.length, "LUKS1 header"))
        _ = reader.take(8)
        let cipher = try Self.name(reader.take(32), "cipher-name", at: 8)
        let mode = try Self.name(reader.take(32), "cipher-mode", at: 40)
        let hash = try Self.name(reader.take(32), "hash-spec", at: 72)
        let payload = UInt64(reader.integer(UInt32.self) ?? 0) * Self.sector
        let keySize = try Self.range(reader.integer(), 1...512, "key-bytes", at: 108)
        let digest = Array(reader.take(20) ?? [])
        let digestSalt = Array(reader.take(32) ?? [])
        let iterations = try Self.range(reader.integer(), 1...UInt32.max, "mk-digest-iter", at: 164)
        let uuid = ShownText.printable(field: reader.take(40) ?? [])

        var slots: [Slot] = []
        for number in 0..<Self.slotCount {
            slots.append(try Slot(number, &reader, keySize: UInt64(keySize)))
        }
        try Self.checkAreas(slots, payload: payload, device.size, surroundings)
        try Self.checkPayload(payload, surroundings)

        let encryption = "\(cipher)-\(mode)"
        let keyslots = slots.filter(\.isActive).map { slot in
            LUKSKeyslot(
                number: slot.number, keySize: Int(keySize), priority: .normal,
                derivation: KeyDerivation(.pbkdf2(hash: hash, iterations: slot.iterations), salt: slot.salt),
                area: slot.area, encryption: encryption, encryptionKeySize: Int(keySize), stripes: Int(Self.stripes),
                splitHash: hash)
        }
        volume = LUKSVolume(
            version: 1, uuid: uuid, label: "", subsystem: "", keyslots: keyslots, otherKeyslots: [],
            digests: [
                LUKSDigest(
                    number: 0, keyslots: keyslots.map(\.number), segments: [0],
                    derivation: KeyDerivation(.pbkdf2(hash: hash, iterations: iterations), salt: digestSalt),
                    digest: digest)
            ],
            segments: [
                LUKSSegment(
                    number: 0, offset: payload, size: nil,
                    kind: .crypt(encryption: encryption, sectorSize: 512, ivTweak: 0), flags: [])
            ],
            tokens: [], requirements: [], flags: [], headerSize: slots.map(\.area.end).max() ?? UInt64(Self.length),
            copy: nil, warnings: [])
    }

    /// One of the eight keyslots.
    private struct Slot {
        let number: Int
        let isActive: Bool
        let iterations: UInt32
        let salt: [UInt8]
        /// Whole sectors: the last one may be used in part.
        let area: ByteRange

        /// Where the slot's fields are, in bytes.
        var place: UInt64 { LUKS1Header.firstSlot + UInt64(number * LUKS1Header.slotLength) }

        init(_ number: Int, _ reader: inout ByteReader, keySize: UInt64) throws(LUKSFault) {
            let place = LUKS1Header.firstSlot + UInt64(number * LUKS1Header.slotLength)
            let name = "LUKS1 header: key-slot-\(number + 1)"
            let state = reader.integer(UInt32.self) ?? 0
            guard state == LUKS1Header.active || state == LUKS1Header.inactive else {
                var bytes: [UInt8] = []
                bytes.append(bigEndian: state)
                throw LUKSFault(
                    "\(name) active", at: place, found: "0x\(bytes.hexadecimal())",
                    allowed: "0x00ac71f3 (active) or 0x0000dead (inactive)")
            }
            self.number = number
            isActive = state == LUKS1Header.active
            iterations = reader.integer() ?? 0
            salt = Array(reader.take(32) ?? [])
            let offset = UInt64(reader.integer(UInt32.self) ?? 0) * LUKS1Header.sector
            let stripes = reader.integer(UInt32.self) ?? 0
            guard !isActive || iterations > 0 else {
                throw LUKSFault("\(name) iterations", at: place + 4, found: 0, allowed: "at least 1")
            }
            guard stripes == LUKS1Header.stripes else {
                throw LUKSFault("\(name) stripes", at: place + 44, found: stripes, allowed: "4000")
            }
            let length = (keySize * UInt64(stripes) + LUKS1Header.sector - 1) / LUKS1Header.sector * LUKS1Header.sector
            guard offset >= UInt64(LUKS1Header.length), let area = ByteRange(offset: offset, length: length) else {
                throw LUKSFault(
                    "\(name) key-material-offset", at: place + 40, found: "sector \(offset / LUKS1Header.sector)",
                    allowed: "at least sector 2, behind the header")
            }
            self.area = area
        }
    }

    /// Areas must not overlap each other or the data; those of active slots must be in the file.
    ///
    /// Inactive ones are compared too: a key that is added later goes there, and both cryptsetup and QEMU refuse the
    /// header otherwise.
    private static func checkAreas(
        _ slots: [Slot], payload: UInt64, _ headerDeviceSize: UInt64, _ surroundings: LUKSSurroundings
    ) throws(LUKSFault) {
        for slot in slots {
            let field = "LUKS1 header: key-slot-\(slot.number + 1) key-material-offset"
            let found = "\(slot.area.length) bytes at \(slot.area.offset)"
            guard !slot.isActive || slot.area.fits(headerDeviceSize) else {
                throw LUKSFault(
                    field, at: slot.place + 40, found: found,
                    allowed: "an area within the \(headerDeviceSize) bytes that hold the header",
                    advice: payload == 0 || slot.area.end <= payload ? Self.headerCutAdvice : nil)
            }
            guard surroundings.isDetached || payload == 0 || slot.area.end <= payload else {
                throw LUKSFault(
                    field, at: slot.place + 40, found: found, allowed: "an area before the data at \(payload)")
            }
        }
        let sorted = slots.sorted { ($0.area.offset, $0.number) < ($1.area.offset, $1.number) }
        for (slot, next) in zip(sorted, sorted.dropFirst()) where slot.area.end > next.area.offset {
            throw LUKSFault(
                "LUKS1 header: key-slot-\(next.number + 1) key-material-offset", at: next.place + 40,
                found: "\(next.area.length) bytes at \(next.area.offset)",
                allowed:
                    "an area that does not overlap that of key-slot-\(slot.number + 1), which ends at \(slot.area.end)"
            )
        }
    }

    private static func checkPayload(_ payload: UInt64, _ surroundings: LUKSSurroundings) throws(LUKSFault) {
        guard surroundings.isDetached || payload > 0 else {
            throw LUKSFault(
                "LUKS1 header: payload-offset", at: 104, found: 0, allowed: "a place behind the header",
                advice: detachedAdvice)
        }
        guard let dataSize = surroundings.dataSize else { return }
        guard let first = ByteRange(offset: payload, length: sector), first.fits(dataSize) else {
            throw LUKSFault(
                "LUKS1 header: payload-offset", at: 104, found: "sector \(payload / sector)",
                allowed: "data within the \(dataSize) bytes of the device",
                advice: surroundings.isDetached ? otherDataAdvice : cutAdvice)
        }
    }

    /// For a header whose data is not in the same file.
    static let detachedAdvice: Sentence =
        "this looks like a header whose data is elsewhere: name the file with the data, and this one with \(remedy: .luksHeader(path: nil))"
    /// For a file that ends before its data starts.
    static let cutAdvice: Sentence =
        "the image is cut short; if this is the backup of a header, name the file with the data, and this with \(remedy: .luksHeader(path: nil))"

    /// For a file that ends within the header and its keyslots, whether the data is behind them or elsewhere.
    static let headerCutAdvice: Sentence =
        "the file is cut short, before its header and keyslots end: compare it with the original or a backup"

    /// For data that is too small for a header in another file.
    static let otherDataAdvice: Sentence = "is IMAGE the file that belongs to this header? if it is, it is cut short"

    private static func name(
        _ bytes: ArraySlice<UInt8>?, _ field: String, at offset: UInt64
    ) throws(LUKSFault) -> String {
        let bytes = bytes ?? []
        guard bytes.contains(0) else {
            throw LUKSFault(
                "LUKS1 header: \(field)", at: offset, found: "no NUL byte", allowed: "a name that ends in one")
        }
        let name = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        guard LUKSText.isName(name) else {
            throw LUKSFault(
                "LUKS1 header: \(field)", at: offset, found: ShownText.quoted(name),
                allowed: "a name in ASCII without spaces")
        }
        return name
    }

    private static func range(
        _ value: UInt32?, _ range: ClosedRange<UInt32>, _ name: String, at offset: UInt64
    ) throws(LUKSFault) -> UInt32 {
        let value = value ?? 0
        guard range.contains(value) else {
            throw LUKSFault(
                "LUKS1 header: \(name)", at: offset, found: value,
                allowed: range.upperBound == .max
                    ? "at least \(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
            )
        }
        return value
    }
}
