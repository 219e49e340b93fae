// SPDX-License-Identifier: Apache-2.0

@testable import Crypto
import Testing

@Suite struct Base64Tests {
    @Test(
        arguments: [
            ("", []), ("Zg==", [0x66]), ("Zm8=", [0x66, 0x6F]), ("Zm9v", [0x66, 0x6F, 0x6F]),
            ("+/8A", [0xFB, 0xFF, 0]),
        ] as [(String, [UInt8])])
    func `base64 is decoded`(text: String, bytes: [UInt8]) { #expect(Base64.decode(text) == bytes) }

    @Test(arguments: [
        "Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "====", "Zg==Zg==", "Zm 9", "Zm_v", "Zg=a", "=AAA", "Zm9v\n",
    ])
    func `what is not base64 is not decoded`(text: String) { #expect(Base64.decode(text) == nil) }
}
