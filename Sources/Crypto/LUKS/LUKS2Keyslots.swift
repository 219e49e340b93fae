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
            let unknown = try Self.unknownPart(keyslot)
            let area = try Self.area(keyslot, config, surroundings, mayBeAbsent: unknown != nil)
            if let area { areas.append((area, try keyslot.member("area").member("offset"), number)) }
            if unknown == nil, let area {
                known.append(try Self.keyslot(number, keyslot, area))
            } else {
                others.append(try Self.other(number, keyslot, reason: unknown ?? "it has no area"))
            }
        }
        areas.sort { ($0.range.offset, $0.number) < ($1.range.offset, $1.number) }
        for (area, next) in zip(areas, areas.dropFirst()) where area.range.end > next.range.offset {
            throw next.field.fault(
                allowed: "a place that is not in the area of keyslot \(area.number), which ends at \(area.range.end)")
        }
    }

    /// What of a keyslot is of another version than is known here, which makes it alone unusable; nil when nothing is.
    private static func unknownPart(_ keyslot: LUKS2Field) throws(LUKSFault) -> String? {
        let type = try keyslot.member("type").text()
        guard type != "reencrypt" else { return "it belongs to a reencryption" }
        guard type == "luks2" else { return "its type \(ShownText.quoted(type)) is not known here" }
        let parts: [(name: String, what: String, known: [String])] = [
            ("kdf", "key derivation", ["pbkdf2", "argon2i", "argon2id"]), ("area", "type of area", ["raw"]),
            ("af", "way to split keys", ["luks1"]),
        ]
        for part in parts {
            let type = try keyslot.member(part.name).member("type").text()
            guard part.known.contains(type) else {
                return "its \(part.what) \(ShownText.quoted(type)) is not known here"
            }
        }
        return nil
    }

    /// Of one that is not known, nothing is demanded but what says where it is.
    private static func other(
        _ number: Int, _ keyslot: LUKS2Field, reason: String
    ) throws(LUKSFault) -> LUKSOtherKeyslot {
        func label(_ field: LUKS2Field?) -> String? {
            guard case .string(let text)? = field?.value else { return nil }
            return ShownText.printable(text)
        }
        let type = try keyslot.member("type").text()
        let isOfReencryption = type == "reencrypt"
        return LUKSOtherKeyslot(
            number: number, type: ShownText.printable(type), reason: reason,
            mode: isOfReencryption ? label(try keyslot.optional("mode")) : nil,
            direction: isOfReencryption ? label(try keyslot.optional("direction")) : nil,
            resilience: isOfReencryption ? label(try keyslot.member("area").optional("type")) : nil)
    }

    /// All types that are known have an area, and one that says its place must be right about it.
    ///
    /// - Parameter mayBeAbsent: the keyslot is of a type that is not known, and may have none.
    private static func area(
        _ keyslot: LUKS2Field, _ config: LUKS2Config, _ surroundings: LUKSSurroundings, mayBeAbsent: Bool
    ) throws(LUKSFault) -> ByteRange? {
        if mayBeAbsent {
            guard let area = try keyslot.optional("area"), case .object(let members) = area.value,
                members["offset"] != nil, members["size"] != nil
            else { return nil }
        }
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
                allowed: "an area within the \(surroundings.headerDeviceSize) bytes that hold the header",
                advice: LUKS1Header.headerCutAdvice)
        }
        return range
    }

    private static func keyslot(
        _ number: Int, _ keyslot: LUKS2Field, _ range: ByteRange
    ) throws(LUKSFault) -> LUKSKeyslot {
        let area = try keyslot.member("area")
        let split = try keyslot.member("af")
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
