// SPDX-License-Identifier: Apache-2.0

extension LUKSDamage {
    /// A LUKS1 header with one change.
    private static func one(
        _ description: String, _ sentence: String, _ change: (inout LUKSTestImage) -> Void
    ) -> LUKSDamage {
        var image = LUKS1Fixture.image
        change(&image)
        return LUKSDamage(description, 1, LUKS1Fixture.image, image, sentence)
    }

    /// A field of keyslot `slot`, numbered from 0, with another value.
    private static func slot(
        _ slot: Int, _ field: Int, _ value: UInt32, _ description: String, _ sentence: String
    ) -> LUKSDamage {
        one(description, sentence) { $0.put(value, at: LUKS1Fixture.slot(slot) + field) }
    }

    /// Faults of LUKS1 headers.
    static let luks1: [LUKSDamage] = names + sizes + slots

    private static let names = [
        one("no end of cipher-name", "cipher-name at byte 8: found no NUL byte, allowed a name that ends in one") {
            $0.put(String(repeating: "a", count: 32), at: 8)
        },
        one(
            "a control character in cipher-name", "cipher-name at byte 8: found \"a\\u{A}s\", allowed a name in ASCII"
        ) {
            $0.put([0x0A], at: 9)
        },
        one("no cipher-name", "cipher-name at byte 8: found \"\", allowed a name in ASCII without spaces") {
            $0.put([0], at: 8)
        },
        one("no end of cipher-mode", "cipher-mode at byte 40: found no NUL byte, allowed a name that ends in one") {
            $0.put(String(repeating: "x", count: 32), at: 40)
        },
        one("no cipher-mode", "cipher-mode at byte 40: found \"\", allowed a name in ASCII without spaces") {
            $0.put([0], at: 40)
        },
        one("a space in cipher-mode", "cipher-mode at byte 40: found \"x s-plain64\", allowed a name in ASCII") {
            $0.put(" ", at: 41)
        },
        one("no end of hash-spec", "hash-spec at byte 72: found no NUL byte, allowed a name that ends in one") {
            $0.put(String(repeating: "s", count: 32), at: 72)
        },
        one("a hash-spec that is not UTF-8", "hash-spec at byte 72: found \"\u{FFFD}ha256\", allowed a name in ASCII") {
            $0.put([0xFF], at: 72)
        },
        one("an unknown version", "LUKS2 header (primary copy): version at byte 6: found 3, allowed 1 or 2") {
            $0.put(UInt16(3), at: 6)
        },
        one("the mark of an unfinished reencryption", "magic at byte 0: found the mark of a reencryption") {
            $0.put([0xDE, 0xAD], at: 4)
        },
    ]

    private static let sizes = [
        one("a file that ends in the header", "LUKS1 header at byte 0: found 591 bytes, allowed at least 592") {
            $0.size = 591
        },
        one("a key of no bytes", "key-bytes at byte 108: found 0, allowed 1 to 512") { $0.put(UInt32(0), at: 108) },
        one("a key that is a little too long", "key-bytes at byte 108: found 513, allowed 1 to 512") {
            $0.put(UInt32(513), at: 108)
        },
        one("a key of 4 GiB", "key-bytes at byte 108: found 4294967295, allowed 1 to 512") {
            $0.put(UInt32.max, at: 108)
        },
        one(
            "a key for which the areas are too close",
            "key-slot-2 key-material-offset at byte 296: found 512000 bytes at 262144, allowed an area that does not "
                + "overlap that of key-slot-1, which ends at 516096"
        ) {
            $0.put(UInt32(128), at: 108)
            // So that only this is wrong.
            $0.put(UInt32(8192), at: 104)
            $0.size = 5 << 20
        },
        one("a digest of no iterations", "mk-digest-iter at byte 164: found 0, allowed at least 1") {
            $0.put(UInt32(0), at: 164)
        },
        one("no place of the data", "payload-offset at byte 104: found 0, allowed a place behind the header") {
            $0.put(UInt32(0), at: 104)
        },
        one("data in the header", "found 256000 bytes at 4096, allowed an area before the data at 512") {
            $0.put(UInt32(1), at: 104)
        },
        one(
            "data in the keyslots",
            "key-slot-8 key-material-offset at byte 584: found 256000 bytes at 1810432, allowed an area before the "
                + "data at 2065920"
        ) { $0.put(UInt32(4035), at: 104) },
        one(
            "data beyond the file",
            "payload-offset at byte 104: found sector 4294967295, allowed data within the 3145728 bytes of the device"
        ) { $0.put(UInt32.max, at: 104) },
        one(
            "a file that ends where the data starts",
            "payload-offset at byte 104: found sector 4096, allowed data within the 2097152 bytes of the device"
        ) { $0.size = 2 << 20 },
        one(
            "a file that ends in a keyslot",
            "key-slot-3 key-material-offset at byte 344: found 256000 bytes at 520192, allowed an area within the "
                + "600000 bytes that hold the header"
        ) { $0.size = 600_000 },
    ]

    private static let slots = [
        slot(
            0, 0, 0xDEAD_BEEF, "a keyslot that is neither active nor inactive",
            "key-slot-1 active at byte 208: found 0xdeadbeef, allowed 0x00ac71f3 (active) or 0x0000dead (inactive)"),
        slot(7, 0, 0, "an inactive keyslot full of zeros", "key-slot-8 active at byte 544: found 0x00000000, allowed"),
        slot(
            2, 4, 0, "an active keyslot of no iterations",
            "key-slot-3 iterations at byte 308: found 0, allowed at least 1"),
        slot(0, 44, 3999, "one stripe too few", "key-slot-1 stripes at byte 252: found 3999, allowed 4000"),
        slot(0, 44, 0, "no stripes", "key-slot-1 stripes at byte 252: found 0, allowed 4000"),
        slot(2, 44, .max, "stripes without end", "key-slot-3 stripes at byte 348: found 4294967295, allowed 4000"),
        slot(
            5, 44, 4001, "too many stripes of an inactive keyslot",
            "key-slot-6 stripes at byte 492: found 4001, allowed 4000"),
        slot(
            0, 40, 0, "key material at the start of the header",
            "key-slot-1 key-material-offset at byte 248: found sector 0, allowed at least sector 2, behind the header"),
        slot(
            2, 40, 1, "key material at the end of the header",
            "key-slot-3 key-material-offset at byte 344: found sector 1, allowed at least sector 2, behind the header"),
        slot(
            2, 40, 8, "key material of two keyslots in one place",
            "key-slot-3 key-material-offset at byte 344: found 256000 bytes at 4096, allowed an area that does not "
                + "overlap that of key-slot-1, which ends at 260096"),
        slot(
            1, 40, 507, "key material of an inactive keyslot in that of an active one",
            "key-slot-2 key-material-offset at byte 296: found 256000 bytes at 259584, allowed an area that does not "
                + "overlap that of key-slot-1"),
        slot(
            0, 40, 4000, "key material that reaches into the data",
            "key-slot-1 key-material-offset at byte 248: found 256000 bytes at 2048000, allowed an area before the "
                + "data at 2097152"),
        slot(
            0, 40, .max, "key material beyond the file",
            "key-slot-1 key-material-offset at byte 248: found 256000 bytes at 2199023255040, allowed an area within "
                + "the 3145728 bytes that hold the header"),
    ]
}
