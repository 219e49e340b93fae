// SPDX-License-Identifier: Apache-2.0

import Testing

/// Headers by cryptsetup, or made from the specifications; the data is encrypted by Python's `cryptography`.
@Suite(
    .luksImages("headers", "keyslots", "containers", "secrets", "segments", "refused"),
    .fewAtATime)
struct KnownLUKSTests {
    @Test(arguments: LUKSImage.names("headers"))
    func `every hash, header size and surviving copy of a header opens`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }

    @Test(arguments: LUKSImage.names("keyslots"))
    func `every kind of keyslot opens, whatever tokens there are`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }

    @Test(arguments: LUKSImage.names("containers"))
    func `the data is found wherever it begins and ends`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }

    @Test(arguments: LUKSImage.names("secrets"))
    func `passphrases and key files are used byte for byte`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }

    @Test(arguments: LUKSImage.names("segments"))
    func `several segments, with several keys, are one disk`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }

    @Test(arguments: [
        ("aria-xts", "no library here has aria in mode xts"), ("twofish-200", "found a key of 50 bytes"),
        ("serpent-160", "20 bytes, is no key of serpent"), ("cast5-lrw", "no library here has cast5 in mode lrw"),
        ("adiantum", "xchacha12,aes-adiantum-plain64"),
        ("cast6", "OpenSSL, libgcrypt and Nettle have no cast6, and Botan dropped it in version 3"),
        ("random-iv", "the vector \"random\" is not known"),
    ])
    func `a cipher that no library here has is refused by name`(_ name: String, _ sentence: String) async throws {
        let image = try #require(LUKSImagesTrait.images["refused-\(name)"])
        try await Program.expectRefusal(["serve"] + image.arguments, status: 65, saying: sentence)
    }

    @Test func `a byte that differs is noticed`() async throws {
        try await LUKSComparison.expectNotice("luks2-hash-sha3-256")
    }
}
