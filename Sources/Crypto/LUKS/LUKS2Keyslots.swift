// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// "keyslots" of a LUKS2 header.
///
/// Source: LUKS2 On-Disk Format Specification 1.1.1, section 3.2.
struct LUKS2Keyslots {
    private(set) var known: [LUKSKeyslot] = []
    private(set) var others: [LUKSOtherKeyslot] = []
    /// Of all.
    let numbers: Set<Int>

    /// Salts, in bytes; cryptsetup's have 32, Argon2 wants 8.
    static let saltLength = 8...64
    /// Keys, in bytes; cryptsetup allows no longer ones.
    private static let keySize: ClosedRange<UInt32> = 1...512
    private static let stripes = 4000

    init(
        _ section: LUKS2Field, _ config: LUKS2Config, _ surroundings: LUKSSurroundings
    ) throws(LUKSFault) {
        let keyslots = try section.numbered(limit: LUKS2Metadata.maximumKeyslots)
        numbers = Set(keyslots.map(\.number))
        var areas: [(range: ByteRange, field: LUKS2Field, number: Int)] = []
        for (number, keyslot) in keyslots {
            let area = try Self.area(keyslot, config, surroundings)
            areas.append((area, try keyslot.member("area").member("offset"), number))
            let type = try keyslot.member("type").text()
            if type == "luks2" {
                known.append(try Self.keyslot(number, keyslot, area))
            } else {
                others.append(
                    LUKSOtherKeyslot(
                        number: number, type: LUKSText.printable(type), mode: try Self.label(keyslot.optional("mode")),
                        direction: try Self.label(keyslot.optional("direction")),
                        resilience: try Self.label(keyslot.member("area").optional("type"))))
            }
        }
        areas.sort { ($0.range.offset, $0.number) < ($1.range.offset, $1.number) }
        for (area, next) in zip(areas, areas.dropFirst()) where area.range.end > next.range.offset {
            throw next.field.fault(
                allowed: "a place that is not in the area of keyslot \(area.number), which ends at \(area.range.end)")
        }
    }

    private static func label(_ field: LUKS2Field?) throws(LUKSFault) -> String? {
        guard let field else { return nil }
        return LUKSText.printable(try field.text())
    }

    /// All types have an area.
    private static func area(
        _ keyslot: LUKS2Field, _ config: LUKS2Config, _ surroundings: LUKSSurroundings
    ) throws(LUKSFault) -> ByteRange {
        let area = try keyslot.member("area")
        let offset = try area.member("offset")
        let size = try area.member("size")
        let start = try offset.decimal()
        let bounds = 2 * config.copySize
        guard start >= bounds, start < config.headerSize, start % 512 == 0 else {
            throw offset.fault(
                allowed: "a multiple of 512 in the keyslots area, which is from \(bounds) to \(config.headerSize)")
        }
        guard let range = ByteRange(offset: start, length: try size.decimal()), range.length > 0,
            range.fits(config.headerSize)
        else {
            throw size.fault(
                allowed: "1 to \(config.headerSize - start), up to the end of the keyslots area at \(config.headerSize)"
            )
        }
        guard range.fits(surroundings.headerDeviceSize) else {
            throw size.fault(
                found: "\(range.length) bytes at \(start)",
                allowed: "an area within the \(surroundings.headerDeviceSize) bytes that hold the header")
        }
        return range
    }

    private static func keyslot(
        _ number: Int, _ keyslot: LUKS2Field, _ range: ByteRange
    ) throws(LUKSFault) -> LUKSKeyslot {
        let area = try keyslot.member("area")
        try expect("raw", in: area.member("type"))
        let split = try keyslot.member("af")
        try expect("luks1", in: split.member("type"))
        let stripes = try split.member("stripes")
        guard case .number(String(Self.stripes)) = stripes.value else {
            throw stripes.fault(allowed: "the number \(Self.stripes)")
        }
        let keySize = try Int(keyslot.member("key_size").integer(Self.keySize))
        let needed = UInt64((keySize * Self.stripes + 511) / 512 * 512)
        guard range.length >= needed else {
            throw try area.member("size").fault(
                allowed: "at least \"\(needed)\" for a key of \(keySize) bytes in \(Self.stripes) parts")
        }
        return LUKSKeyslot(
            number: number, keySize: keySize, priority: try priority(keyslot),
            derivation: try derivation(keyslot.member("kdf")), area: range,
            encryption: try area.member("encryption").name(),
            encryptionKeySize: Int(try area.member("key_size").integer(Self.keySize)), stripes: Self.stripes,
            splitHash: try split.member("hash").name())
    }

    private static func expect(_ text: String, in field: LUKS2Field) throws(LUKSFault) {
        guard try field.text() == text else { throw field.fault(allowed: "\"\(text)\"") }
    }

    private static func priority(_ keyslot: LUKS2Field) throws(LUKSFault) -> LUKSKeyslot.Priority {
        guard let priority = try keyslot.optional("priority") else { return .normal }
        return LUKSKeyslot.Priority(rawValue: Int(try priority.integer(0...2))) ?? .normal
    }

    private static func derivation(_ derivation: LUKS2Field) throws(LUKSFault) -> KeyDerivation {
        func cost(_ name: String) throws(LUKSFault) -> UInt32 {
            try derivation.member(name).integer(1...UInt32.max)
        }
        let type = try derivation.member("type")
        let function: KeyDerivation.Function
        switch try type.text() {
        case "pbkdf2":
            function = .pbkdf2(hash: try derivation.member("hash").name(), iterations: try cost("iterations"))
        case "argon2i":
            function = .argon2i(time: try cost("time"), memory: try cost("memory"), lanes: try cost("cpus"))
        case "argon2id":
            function = .argon2id(time: try cost("time"), memory: try cost("memory"), lanes: try cost("cpus"))
        default: throw type.fault(allowed: "\"pbkdf2\", \"argon2i\" or \"argon2id\"")
        }
        return KeyDerivation(function, salt: try derivation.member("salt").bytes(saltLength))
    }
}
