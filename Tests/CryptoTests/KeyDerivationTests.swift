// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Testing

@Suite struct KeyDerivationTests {
    private static func derive(_ function: KeyDerivation.Function, _ passphrase: String, _ salt: String, _ count: Int)
        throws -> [UInt8]
    {
        let derivation = KeyDerivation(function, salt: Array(salt.utf8))
        return bytes(try derivation.derive(from: secret(Array(passphrase.utf8)), count: count, limits: .init()))
    }

    // RFC 6070; RFC 7914, section 11.
    @Test(
        arguments: [
            ("sha1", "password", "salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
            ("sha1", "password", "salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
            ("sha1", "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"),
            (
                "sha1", "passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096,
                "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038"
            ),
            ("sha1", "pass\0word", "sa\0lt", 4096, "56fa6aa75548099dcc37d7f03425e0c3"),
            (
                "sha256", "passwd", "salt", 1,
                """
                55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc
                49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783
                """
            ),
            (
                "sha256", "Password", "NaCl", 80000,
                """
                4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56
                a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d
                """
            ),
        ] as [(String, String, String, UInt32, String)])
    func `PBKDF2 gives what the RFCs have`(
        hash: String, passphrase: String, salt: String, iterations: UInt32, key: String
    ) throws {
        let expected = bytes(key)
        let found = try Self.derive(.pbkdf2(hash: hash, iterations: iterations), passphrase, salt, expected.count)
        #expect(found == expected)
    }

    private static func refusal(
        _ function: KeyDerivation.Function, salt: Int = 32, _ limits: KeyDerivationLimits = .init()
    )
        -> UnlockError?
    {
        do {
            let derivation = KeyDerivation(function, salt: [UInt8](repeating: 1, count: salt))
            _ = try derivation.derive(from: secret([1]), count: 32, limits: limits)
            return nil
        } catch { return error }
    }

    @Test(
        arguments: [
            (.pbkdf2(hash: "sha256", iterations: 1 << 28 + 1), "limits.iterations"),
            (.pbkdf2(hash: "sha256", iterations: .max), "allowed 268435456 iterations"),
            (.pbkdf2(hash: "sha256", iterations: 0), "damaged"),
            (.pbkdf2(hash: "crc32\n", iterations: 1000), "\"crc32\\u{A}\""),
            (.argon2i(time: 0, memory: 1024, lanes: 1), "damaged"),
            (.argon2id(time: 1, memory: 1024, lanes: 0), "damaged"),
            (.argon2id(time: 1, memory: 31, lanes: 4), "damaged"), (.argon2id(time: 1, memory: 0, lanes: 1), "damaged"),
            (.argon2id(time: 1, memory: .max, lanes: 257), "1 to 256 threads"),
            (.argon2id(time: 1, memory: 1 << 22 + 1, lanes: 1), "limits.memory"),
            (.argon2id(time: .max, memory: .max, lanes: 256), "allowed 4194304 KiB"),
            (.argon2i(time: .max, memory: 1024, lanes: 1), "limits.argonWork"),
            (.argon2id(time: 257, memory: 1 << 20, lanes: 4), "allowed 268435456 KiB of memory times passes"),
        ] as [(KeyDerivation.Function, String)])
    func `what costs too much is refused before it is computed`(function: KeyDerivation.Function, says: String) throws {
        let error = try #require(Self.refusal(function))
        #expect(error.code == .refused)
        #expect(error.description.contains(says), "\(error)")
        #expect(!error.description.contains("\n"))
    }

    @Test func `a short salt and more memory than there is are refused`() throws {
        let salt = try #require(Self.refusal(.argon2id(time: 1, memory: 1024, lanes: 1), salt: 7))
        #expect(salt.description.contains("found a salt of 7 bytes"))
        var limits = KeyDerivationLimits()
        limits.memory = .max
        limits.argonWork = .max
        let memory = try #require(Self.refusal(.argon2id(time: 1, memory: .max, lanes: 1), limits))
        #expect(memory.description.contains("memory 4294967295 KiB") && memory.description.contains("are available ("))
    }

    @Test func `limits can be lowered and raised`() throws {
        var limits = KeyDerivationLimits()
        limits.iterations = 999
        #expect(try #require(Self.refusal(.pbkdf2(hash: "sha1", iterations: 1000), limits)).description.contains("999"))
        limits.iterations = 1000
        #expect(Self.refusal(.pbkdf2(hash: "sha1", iterations: 1000), limits) == nil)
        limits.memory = 64 << 10
        limits.argonWork = 128 << 10
        #expect(Self.refusal(.argon2id(time: 2, memory: 64, lanes: 1), limits) == nil)
        #expect(Self.refusal(.argon2id(time: 3, memory: 64, lanes: 1), limits) != nil)
        #expect(Self.refusal(.argon2id(time: 1, memory: 65, lanes: 1), limits) != nil)
    }

    @Test func `the cheapest comes first, whatever the image says`() {
        let functions: [KeyDerivation.Function] = [
            .pbkdf2(hash: "sha1", iterations: 0), .pbkdf2(hash: "sha256", iterations: 1000),
            .argon2id(time: 4, memory: 1024, lanes: 4), .pbkdf2(hash: "sha256", iterations: 2_000_000),
            .argon2id(time: 4, memory: 1 << 20, lanes: 4), .argon2i(time: .max, memory: .max, lanes: 0),
        ]
        let costs = functions.map { KeyDerivation($0, salt: []).cost(count: 32) }
        #expect(costs == costs.sorted())
    }

    @Test func `a description says the cost`() {
        #expect(
            "\(KeyDerivation(.argon2id(time: 4, memory: 1_048_576, lanes: 4), salt: []))"
                == "argon2id, time 4, memory 1048576 KiB, 4 threads")
        #expect(
            "\(KeyDerivation(.pbkdf2(hash: "sha256", iterations: 1000), salt: []))" == "pbkdf2-sha256, 1000 iterations")
    }

    @Test(arguments: [0, -1, 513, Int.max])
    func `keys of other lengths are refused`(count: Int) throws {
        let derivation = KeyDerivation(.pbkdf2(hash: "sha256", iterations: 1), salt: noise(32))
        #expect(throws: UnlockError.self) {
            _ = try derivation.derive(from: secret([1]), count: count, limits: .init())
        }
    }
}
