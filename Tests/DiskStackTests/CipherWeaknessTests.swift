// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import DiskStack

/// What is weak about ciphers, by their names in LUKS headers.
@Suite struct CipherWeaknessTests {
    @Test(
        arguments: [
            ("aes-xts-plain64", []), ("aes-cbc-essiv:sha256", [.malleable]), ("aes-cbc-eboiv", [.malleable]),
            ("aes-cbc-plain64", [.predictableVectors]), ("aes-cbc-plain", [.predictableVectors, .repeatedVectors]),
            ("aes-xts-plain", [.repeatedVectors]), ("aes-xts-plain:x", [.repeatedVectors]), ("aes-ecb", [.equalBlocks]),
            ("aes-ctr-plain64", [.reusedStream]), ("aes-lrw-benbi", [.keyOnDisk]),
            ("blowfish-cbc-essiv:sha256", [.malleable, .smallBlocks]), ("des3_ede-xts-plain64", [.smallBlocks]),
        ] as [(String, [CipherWeakness])])
    func `an encryption has the weaknesses of its cipher, its mode and its vectors`(
        _ encryption: String, _ weaknesses: [CipherWeakness]
    ) {
        #expect(CipherWeakness.all(of: encryption) == weaknesses)
    }
}
