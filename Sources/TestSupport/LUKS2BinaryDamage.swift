// SPDX-License-Identifier: Apache-2.0

extension LUKSDamage {
    /// A LUKS2 header with one change of its bytes.
    ///
    /// - Parameter isSigned: whether the checksums are right for what is there after the change.
    private static func two(
        _ description: String, _ sentence: String, isSigned: Bool = true, _ change: (inout LUKSTestImage) -> Void
    ) -> LUKSDamage {
        let fixture = LUKS2Fixture()
        var image = fixture.image
        change(&image)
        if isSigned { LUKS2Fixture.sign(&image, fixture.copySize) }
        return LUKSDamage(description, 2, fixture.image, image, sentence)
    }

    /// The same change of both copies.
    private static func both(
        _ description: String, _ sentence: String, isSigned: Bool = true, _ change: (inout LUKSTestImage, Int) -> Void
    ) -> LUKSDamage {
        two(description, sentence, isSigned: isSigned) { image in
            change(&image, 0)
            change(&image, 16384)
        }
    }

    /// Faults of the binary headers, and of the copies together.
    static let luks2Binary: [LUKSDamage] = checksums + fields

    private static let checksums = [
        both(
            "wrong checksums on both copies", "csum at byte 448: found 00000000… (sha256), allowed ", isSigned: false
        ) { $0.put([0, 0, 0, 0], at: $1 + 448) },
        both(
            "JSON that the checksums do not fit",
            "the other copy is damaged too (LUKS2 header (secondary copy): csum at", isSigned: false
        ) {
            $0.put(" ", at: $1 + 4096 + 2000)
        },
        two(
            "a wrong checksum, and no secondary copy",
            "there is no second copy of the header at any of its places", isSigned: false
        ) {
            $0.put([0], at: 448)
            $0.put([0], at: 16384)
        },
        two(
            "no primary copy, and a wrong checksum of the secondary one",
            "LUKS2 header (primary copy): magic at byte 0: found 000000000000, allowed 4c554b53babe; the other copy is "
                + "damaged too (LUKS2 header (secondary copy): csum at byte 16832: found ", isSigned: false
        ) {
            $0.put([UInt8](repeating: 0, count: 4096), at: 0)
            $0.put([0], at: 16384 + 448)
        },
        two(
            "different faults of the copies",
            "LUKS2 header (primary copy): hdr_size at byte 8: found 16385, allowed a power of two from 16384 to "
                + "4194304; "
                + "the other copy is damaged too (LUKS2 header (secondary copy): version at byte 16390: found 3, "
                + "allowed 2)"
        ) {
            $0.put(UInt64(16385), at: 8)
            $0.put(UInt16(3), at: 16390)
        },
        both(
            "a checksum by an unknown hash",
            "csum_alg at byte 72: found \"sha0\", allowed a hash that nbdecrypt knows (cryptsetup writes \"sha256\")"
        ) {
            $0.put([0x73, 0x68, 0x61, 0x30, 0, 0], at: $1 + 72)
        },
        two(
            "copies of different volumes",
            "LUKS2 header (secondary copy): uuid at byte 16552: found \"6c756b73-0000-4000-8000-00000000000f\", "
                + "allowed \"6c756b73-0000-4000-8000-000000000002\", that of the primary copy; the two copies are of "
                + "different volumes"
        ) { $0.put("f", at: 16384 + 168 + 35) },
    ]

    private static let fields = [
        both("an unknown version", "LUKS2 header (primary copy): version at byte 6: found 9, allowed 1 or 2") {
            $0.put(UInt16(9), at: $1 + 6)
        },
        both("a header of no size", "hdr_size at byte 8: found 0, allowed a power of two from 16384 to 4194304") {
            $0.put(UInt64(0), at: $1 + 8)
        },
        both("a header that is too small", "hdr_size at byte 8: found 8192, allowed a power of two from 16384") {
            $0.put(UInt64(8192), at: $1 + 8)
        },
        both(
            "a header of a size that there is not", "hdr_size at byte 8: found 20480, allowed a power of two from 16384"
        ) {
            $0.put(UInt64(20480), at: $1 + 8)
        },
        both("a header that is too large", "hdr_size at byte 8: found 8388608, allowed a power of two from 16384") {
            $0.put(UInt64(8 << 20), at: $1 + 8)
        },
        both("a header of 2^64 - 1 bytes", "hdr_size at byte 8: found 18446744073709551615, allowed a power of two") {
            $0.put(UInt64.max, at: $1 + 8)
        },
        both(
            "a header that is larger than the file",
            "hdr_size at byte 8: found 4194304, allowed a header within the file's"
        ) {
            $0.put(UInt64(4 << 20), at: $1 + 8)
        },
        both("a header that says it is elsewhere", "hdr_offset at byte 256: found 512, allowed 0, its own place") {
            $0.put(UInt64(512), at: $1 + 256)
        },
        two("a file that ends in the binary header", "at byte 0: found the end of the file at 4095, allowed 4096 bytes")
        {
            $0.size = 4095
        },
        two(
            "a file that ends in the primary copy",
            "hdr_size at byte 8: found 16384, allowed a header within the file's 9000 bytes"
        ) {
            $0.size = 9000
        },
        two(
            "a secondary copy that is not where the primary one ends",
            "LUKS2 metadata: JSON at byte 16384: found \"S\", allowed nothing but NUL bytes behind the object; the "
                + "other copy "
                + "is damaged too (LUKS2 header (secondary copy): magic at byte 32768: found 000000000000, allowed "
                + "534b554cbabe)",
            isSigned: false
        ) { image in
            var larger = LUKS2Fixture()
            larger.copySize = 32768
            image = larger.image
            image.put(LUKS2Fixture().image.bytes[16384..<20480], at: 16384)
            image.put([UInt8](repeating: 0, count: 4096), at: 32768)
            // Only the primary copy has a right checksum.
            let primary = Array(image.bytes[0..<32768])
            var signed = LUKSTestImage(bytes: primary + primary, size: 65536)
            LUKS2Fixture.sign(&signed, 32768)
            image.put(signed.bytes[0..<512], at: 0)
        },
    ]
}
