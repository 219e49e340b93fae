// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Foundation
import Testing

@testable import DiskStack

/// Foundation's encodings and normal forms are the oracle.
@Suite struct PassphraseVariantTests {
    private func secret(_ bytes: [UInt8]) -> Secret {
        bytes.withBytes { bytes in Secret(count: bytes.byteCount) { $0.copy(from: bytes) } }
    }

    /// What a variant makes of bytes; nil when there is no such variant.
    private func variant(_ words: String, of bytes: [UInt8]) -> [UInt8]? {
        PassphraseVariant.all(of: secret(bytes)).first { $0.description.contains(words) }?.secret.withBytes {
            [UInt8](copying: $0)
        }
    }

    @Test func `every letter of Latin-1 and Latin Extended-A is spelt as Unicode says`() throws {
        for number in UInt32(0xA0)...0x17F {
            let character = String(try #require(Unicode.Scalar(number)))
            let text = "a1\(character)z"
            let (composed, decomposed) = (
                Array(text.precomposedStringWithCanonicalMapping.utf8),
                Array(text.decomposedStringWithCanonicalMapping.utf8)
            )
            #expect(variant("NFD", of: Array(text.utf8)) == (composed == decomposed ? nil : decomposed), "\(character)")
            #expect(variant("NFC", of: decomposed) == (composed == decomposed ? nil : composed), "\(character)")
            #expect(variant("NFC", of: composed) == nil)
            let latin1 = text.data(using: .isoLatin1).map(Array.init)
            #expect(variant("in Latin-1", of: Array(text.utf8)) == latin1)
            if let latin1 { #expect(variant("in UTF-8", of: latin1) == Array(text.utf8)) }
        }
    }

    @Test func `digits become what is on their keys on a French keyboard, and the other way around`() {
        let (digits, keys) = ("pass1234567890", "pass&é\"'(-è_çà")
        #expect(variant("French keyboard types in place", of: Array(digits.utf8)) == Array(keys.utf8))
        #expect(variant("digits in place", of: Array(keys.utf8)) == Array(digits.utf8))
        #expect(variant("French", of: Array("password".utf8)) == nil)
    }

    @Test func `newlines and returns come and go`() {
        #expect(variant("without the newline", of: Array("a\r\n".utf8)) == Array("a".utf8))
        #expect(variant("without the carriage return", of: Array("a\r".utf8)) == Array("a".utf8))
        #expect(variant("with a line feed", of: Array("a".utf8)) == Array("a\n".utf8))
        #expect(variant("with carriage return and line feed", of: Array("a".utf8)) == Array("a\r\n".utf8))
        #expect(PassphraseVariant.all(of: secret([])).isEmpty)
    }

    @Test func `keys are spelt as OpenStack does, before and after it left zeros out`() {
        // The key of a test of os-brick, 0725230b, four times.
        let key: [UInt8] = (0..<4).flatMap { _ in [0x07, 0x25, 0x23, 0x0B] }
        let (padded, unpadded) = (
            Array(String(repeating: "0725230b", count: 4).utf8), Array(String(repeating: "72523b", count: 4).utf8)
        )
        #expect(variant("as the hexadecimal digits", of: key) == padded)
        #expect(variant("without a leading 0", of: key) == unpadded)
        #expect(variant("without a leading 0", of: padded) == unpadded)
        for other in ["0725230b", "correct horse battery staple 123", "a passphrase of sixteen and more"] {
            #expect(variant("hexadecimal", of: Array(other.utf8)) == nil)
        }
    }
}
