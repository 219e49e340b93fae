// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Foundation
import Testing

/// Secrets that are written as text. The oracle for what is right is Foundation's base64.
@Suite struct SecretEncodingTests {
    private func secret(_ text: String) -> Secret {
        Array(text.utf8).withBytes { bytes in Secret(count: bytes.byteCount) { $0.copy(from: bytes) } }
    }

    private func bytes(_ secret: Secret) -> [UInt8] { secret.withBytes { [UInt8](copying: $0) } }

    @Test func `bytes come back from both forms, however the text is broken`() throws {
        for count in 0..<70 {
            let data = Data((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 151 &+ count &* 7) })
            let digits = data.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            for text in [digits, digits.uppercased(), " \(digits)\r\n", digits.map { "\($0)\n" }.joined()] {
                #expect(bytes(try secret(text).decodingHexadecimal()) == Array(data))
            }
            let base64 = data.base64EncodedString()
            for text in [base64, "\t\(base64)\n", base64.map { "\($0) " }.joined()] {
                #expect(bytes(try secret(text).decodingBase64()) == Array(data))
            }
        }
    }

    @Test(arguments: [
        ("0", Secret.DecodingFault.count(1)), ("000", .count(3)), ("0g", .character(at: 1)),
        ("0x12", .character(at: 1)),
        ("12:34", .character(at: 2)), ("12\0", .character(at: 2)), ("é0", .character(at: 0)),
    ])
    func `what is not hexadecimal is refused with its place`(_ text: String, _ fault: Secret.DecodingFault) {
        #expect(throws: fault) { try secret(text).decodingHexadecimal() }
    }

    @Test(arguments: [
        ("A", Secret.DecodingFault.count(1)), ("AA", .count(2)), ("AAA", .count(3)), ("AA=", .count(3)),
        ("AAA==", .character(at: 4)), ("=", .character(at: 0)), ("A===", .character(at: 1)),
        ("AA==AA==", .character(at: 4)),
        ("AAAA====", .character(at: 4)), ("AA=A", .character(at: 3)), ("AA-_", .character(at: 2)),
        // The bits that are left over are not zero.
        ("AB==", .bitsLeft), ("AAB=", .bitsLeft),
    ])
    func `what is not base64 is refused with its place`(_ text: String, _ fault: Secret.DecodingFault) {
        #expect(throws: fault) { try secret(text).decodingBase64() }
    }
}
