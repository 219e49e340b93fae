// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The metadata of a LUKS2 header, checked: its JSON, against the specification, itself and the devices.
///
/// Unknown fields, and keyslots, tokens and segments of unknown types, are let through, as the specification asks; see
/// ``LUKSSupport`` for what is done about them. Source: LUKS2 On-Disk Format Specification 1.1.1, section 3.
struct LUKS2Metadata {
    let keyslots: [LUKSKeyslot]
    let otherKeyslots: [LUKSOtherKeyslot]
    let digests: [LUKSDigest]
    let segments: [LUKSSegment]
    let tokens: [LUKSToken]
    let requirements: [String]
    let flags: [String]
    /// Both copies of the header and the keyslots area, in bytes.
    let headerSize: UInt64

    static let maximumKeyslots = 32
    static let maximumTokens = 32
    static let maximumSegments = 32
    static let maximumDigests = 8
    /// In bytes.
    static let maximumKeyslotsSize: UInt64 = 128 << 20

    /// Reads a JSON area.
    ///
    /// - Parameters:
    ///   - json: all of it, up to the end of the copy of the header.
    ///   - offset: where it is, in bytes.
    init(json: [UInt8], at offset: UInt64, _ surroundings: LUKSSurroundings) throws(LUKSFault) {
        let root: LUKS2Field
        do throws(JSONFault) {
            root = LUKS2Field(value: .object(try StrictJSON.read(area: json)), path: "", place: offset)
        } catch {
            throw LUKSFault(
                "LUKS2 metadata: JSON", at: offset + UInt64(error.position), found: error.found, allowed: error.allowed)
        }
        let config = try LUKS2Config(root.member("config"), jsonSize: UInt64(json.count))
        flags = config.flags
        requirements = config.requirements
        headerSize = config.headerSize
        let keyslots = try LUKS2Keyslots(root.member("keyslots"), config, surroundings)
        let segments = try LUKS2Segments(root.member("segments"), config, surroundings)
        self.keyslots = keyslots.known
        self.otherKeyslots = keyslots.others
        self.segments = segments.all
        tokens = try Self.tokens(root.member("tokens"), keyslots.numbers)
        digests = try Self.digests(root.member("digests"), keyslots.numbers, segments.all)
        try segments.checkDigests(digests)
    }

    private static func tokens(_ section: LUKS2Field, _ keyslots: Set<Int>) throws(LUKSFault) -> [LUKSToken] {
        var tokens: [LUKSToken] = []
        for (number, token) in try section.numbered(limit: maximumTokens) {
            tokens.append(
                LUKSToken(
                    number: number, type: ShownText.printable(try token.member("type").text()),
                    keyslots: try token.member("keyslots").references(to: keyslots, section: "keyslots")))
        }
        return tokens
    }

    private static func digests(
        _ section: LUKS2Field, _ keyslots: Set<Int>, _ segments: [LUKSSegment]
    ) throws(LUKSFault) -> [LUKSDigest] {
        let segments = Set(segments.map(\.number))
        var digests: [LUKSDigest] = []
        for (number, digest) in try section.numbered(limit: maximumDigests) {
            let type = try digest.member("type")
            guard try type.text() == "pbkdf2" else { throw type.fault(allowed: "\"pbkdf2\"") }
            let function = KeyDerivation.Function.pbkdf2(
                hash: try digest.member("hash").name(),
                iterations: try digest.member("iterations").integer(1...UInt32.max))
            digests.append(
                LUKSDigest(
                    number: number,
                    keyslots: try digest.member("keyslots").references(to: keyslots, section: "keyslots"),
                    segments: try digest.member("segments").references(to: segments, section: "segments"),
                    derivation: KeyDerivation(
                        function, salt: try digest.member("salt").bytes(LUKS2Keyslots.saltLength)),
                    // Shorter ones would prove nothing.
                    digest: try digest.member("digest").bytes(16...64)))
        }
        return digests
    }
}

/// "config": sizes, flags and requirements.
struct LUKS2Config {
    /// One copy of the header, in bytes.
    let copySize: UInt64
    /// Where the keyslots area ends, in bytes.
    let headerSize: UInt64
    let flags: [String]
    let requirements: [String]

    init(_ config: LUKS2Field, jsonSize: UInt64) throws(LUKSFault) {
        let size = try config.member("json_size")
        guard try size.decimal() == jsonSize else {
            throw size.fault(allowed: "\"\(jsonSize)\", the size of the area in the binary header")
        }
        let keyslotsSize = try config.member("keyslots_size")
        let value = try keyslotsSize.decimal()
        guard value % 4096 == 0, value <= LUKS2Metadata.maximumKeyslotsSize else {
            throw keyslotsSize.fault(
                allowed: "a multiple of 4096, at most \(LUKS2Metadata.maximumKeyslotsSize)")
        }
        copySize = jsonSize + UInt64(LUKS2BinaryHeader.length)
        headerSize = 2 * copySize + value
        flags = try config.optional("flags")?.texts().map { ShownText.printable($0) } ?? []
        requirements = try Self.requirements(config).map { ShownText.printable($0) }
    }

    /// The specification shows an array; cryptsetup writes an object whose member "mandatory" is one.
    private static func requirements(_ config: LUKS2Field) throws(LUKSFault) -> [String] {
        guard let requirements = try config.optional("requirements") else { return [] }
        if case .array = requirements.value { return try requirements.texts() }
        return try requirements.optional("mandatory")?.texts() ?? []
    }
}
