// SPDX-License-Identifier: Apache-2.0

import Testing

/// Headers by cryptsetup, or made from the specifications; the data is encrypted by Python's `cryptography`.
@Suite(
    "LUKS images with known plaintext",
    .luksImages("headers", "keyslots", "containers", "secrets", "segments", "refused"),
    .fourAtATime)
struct KnownLUKSTests {
    @Test("Every hash, header size and surviving copy of a header opens", arguments: LUKSImage.names("headers"))
    func headers(_ name: String) async throws { try await LUKSComparison.run(name) }

    @Test("Every kind of keyslot opens, whatever tokens there are", arguments: LUKSImage.names("keyslots"))
    func keyslots(_ name: String) async throws { try await LUKSComparison.run(name) }

    @Test("The data is found wherever it begins and ends", arguments: LUKSImage.names("containers"))
    func containers(_ name: String) async throws { try await LUKSComparison.run(name) }

    @Test("Passphrases and key files are used byte for byte", arguments: LUKSImage.names("secrets"))
    func secrets(_ name: String) async throws { try await LUKSComparison.run(name) }

    @Test("Several segments, with several keys, are one disk", arguments: LUKSImage.names("segments"))
    func segments(_ name: String) async throws { try await LUKSComparison.run(name) }

    @Test(
        "A cipher that no library here has is refused by name",
        arguments: [
            ("aria-xts", "no library here has aria in mode xts"), ("twofish-200", "found a key of 50 bytes"),
            ("serpent-160", "20 bytes, is no key of serpent"), ("cast5-lrw", "no library here has cast5 in mode lrw"),
            ("adiantum", "xchacha12,aes-adiantum-plain64"),
            ("cast6", "OpenSSL, libgcrypt and Nettle have no cast6, and Botan dropped it in version 3"),
            ("random-iv", "the vector \"random\" is not known"),
        ])
    func refused(_ name: String, _ sentence: String) async throws {
        let image = try #require(LUKSImagesTrait.images["refused-\(name)"])
        try await Program.expectRefusal(["serve"] + image.arguments, status: 65, saying: sentence)
    }

    @Test("A byte that differs is noticed")
    func difference() async throws { try await LUKSComparison.expectNotice("luks2-hash-sha3-256") }
}
