// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import TestSupport
import Testing

@Suite struct LUKSUnlockTests {
    /// A volume of 32 keyslots, or fewer, of one key; no passphrase opens it.
    private static func unlock(
        keyslots: Int, _ derivation: String, digestIterations: Int = 2000, seconds: UInt64? = nil, only: Int? = nil
    ) throws -> LUKSUnlock {
        var fixture = LUKS2Fixture()
        fixture.fileSize = 32 << 20
        let slots = (0..<keyslots).map { number in
            """
            "\(number)":{"type":"luks2","key_size":64,"af":{"type":"luks1","stripes":4000,"hash":"sha256"},\
            "area":{"type":"raw","offset":"\(131_072 + number * 258_048)","size":"258048",\
            "encryption":"aes-xts-plain64","key_size":64},"kdf":{\(derivation),"salt":"AAECAwQFBgcICQoLDA0ODw=="}}
            """
        }
        let tail = fixture.json.firstRange(of: "},\"tokens\"")?.lowerBound ?? fixture.json.startIndex
        fixture.json = "{\"keyslots\":{" + slots.joined(separator: ",") + fixture.json[tail...]
        fixture.json = fixture.json
            .replacing("\"keyslots\":[\"1\"]", with: "\"keyslots\":[]")
            .replacing(
                "[\"0\",\"1\"]", with: "[\((0..<keyslots).map { "\"\($0)\"" }.joined(separator: ","))]"
            )
            .replacing("\"iterations\":2000", with: "\"iterations\":\(digestIterations)")
            .replacing("\"keyslots_size\":\"524288\"", with: "\"keyslots_size\":\"8388608\"")
            .replacing("\"1048576\"", with: "\"16777216\"")
        fixture.copySize = 65536
        fixture.json = fixture.json.replacing("\"json_size\":\"12288\"", with: "\"json_size\":\"61440\"")
        let volume = try LUKSHeaderTests.read(fixture.image)
        #expect(volume.keyslots.count == keyslots)
        var options = LUKSUnlock.Options()
        options.keyslot = only
        if let seconds { options.limits.seconds = seconds }
        return LUKSUnlock(volume, header: fixture.image.device, options: options) { what in
            Issue.record("derives \(what)")
        }
    }

    private static func secrets(_ count: Int) -> [LUKSUnlock.NamedSecret] {
        (0..<count).map { LUKSUnlock.NamedSecret(name: "secret \($0)", secret: secret([UInt8($0)])) }
    }

    private static let dear = "\"type\":\"pbkdf2\",\"hash\":\"sha256\",\"iterations\":268435456"
    private static let usual = "\"type\":\"argon2id\",\"time\":4,\"memory\":1048576,\"cpus\":4"

    @Test func `what is allowed for each keyslot is refused in sum, before anything is derived`() throws {
        let unlock = try Self.unlock(keyslots: 32, Self.dear)
        // 2^28 iterations of 300 ns for each of two digests, 32 times.
        let errors = [
            try #require(throws: UnlockError.self) { try unlock.prepare(volumeKeyCount: 0) },
            try #require(throws: UnlockError.self) { try unlock.prepareSurvey() },
            try #require(throws: UnlockError.self) { try unlock.open(with: Self.secrets(1)) },
            try #require(throws: UnlockError.self) { try unlock.survey(Self.secrets(1)) },
        ]
        for error in errors {
            #expect(error.code == .refused)
            #expect(
                error.description
                    == "trying a secret on 32 keyslots and digests could take about 5153 seconds, allowed for a volume are "
                    + "900; name the keyslot with keyslot, or, if the image is to be trusted, allow more with "
                    + "limits.seconds")
        }
        try Self.unlock(keyslots: 32, Self.dear, only: 31).prepare(volumeKeyCount: 0)
        try Self.unlock(keyslots: 32, Self.dear, seconds: 6000).prepare(volumeKeyCount: 0)
    }

    @Test func `the number of secrets counts, and so does the digest`() throws {
        let unlock = try Self.unlock(keyslots: 2, Self.dear)
        try unlock.prepare(volumeKeyCount: 0)
        let error = try #require(throws: UnlockError.self) { try unlock.open(with: Self.secrets(3)) }
        #expect(error.description.hasPrefix("trying 3 secrets on 2 keyslots and digests could take about 966"))
        let digests = try Self.unlock(
            keyslots: 32, "\"type\":\"pbkdf2\",\"hash\":\"sha256\",\"iterations\":1000", digestIterations: 1 << 28)
        #expect(throws: UnlockError.self) { try digests.prepare(volumeKeyCount: 0) }
        try digests.prepare(volumeKeyCount: 1)
        let keys = try #require(throws: UnlockError.self) { try digests.prepare(volumeKeyCount: 12) }
        #expect(keys.description.contains("limits.seconds"))
    }

    @Test func `32 ordinary keyslots are within the limit, with five secrets`() throws {
        let unlock = try Self.unlock(keyslots: 32, Self.usual)
        try unlock.prepare(volumeKeyCount: 0)
        // Five secrets are five times as much; in one thread it takes longest.
        try Self.unlock(keyslots: 32, Self.usual, seconds: 180).prepare(volumeKeyCount: 0)
        let slow = Self.usual.replacing("\"cpus\":4", with: "\"cpus\":1")
        try Self.unlock(keyslots: 32, slow, seconds: 180).prepare(volumeKeyCount: 0)
    }

    @Test func `a cost that no number holds is refused`() throws {
        let derivation = KeyDerivation(.argon2i(time: .max, memory: .max, lanes: 1), salt: [])
        #expect(derivation.cost(count: 64) == .max)
        #expect(KeyDerivation(.pbkdf2(hash: "none", iterations: .max), salt: []).cost(count: 0) > 0)
    }
}
