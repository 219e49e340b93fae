// SPDX-License-Identifier: Apache-2.0

extension LUKSDamage {
    private static let salt = LUKS2Fixture.salt
    private static let whole = "a whole number, not in quotes"
    private static let digits = "decimal digits in quotes, less than 2^64"

    /// Faults of keyslots.
    static let luks2Keyslots: [LUKSDamage] = keyslots + areas + derivations

    private static let keyslots = [
        value(
            "no keyslots section", "\"keyslots\":{\"0", "\"keyslot\":{\"0", "keyslots", found: "nothing",
            allowed: "this field"),
        value(
            "keyslots as an array", "\"keyslots\":{", "\"keyslots\":[],\"k\":{", "keyslots", found: "an array",
            allowed: "an object"),
        value(
            "a keyslot with the number 32", "\"1\":{\"type\"", "\"32\":{\"type\"", "keyslots", found: "the key \"32\"",
            allowed: "keys from \"0\" to \"31\""),
        value(
            "a keyslot with the number 01", "\"1\":{\"type\"", "\"01\":{\"type\"", "keyslots", found: "the key \"01\"",
            allowed: "keys from \"0\" to \"31\""),
        value(
            "a keyslot with a negative number", "\"1\":{\"type\"", "\"-1\":{\"type\"", "keyslots",
            found: "the key \"-1\"",
            allowed: "keys from \"0\" to \"31\""),
        value(
            "a keyslot with a name", "\"1\":{\"type\"", "\"a\\u001bb\":{\"type\"", "keyslots",
            found: "the key \"a\\u{1B}b\"",
            allowed: "keys from \"0\" to \"31\""),
        value(
            "a keyslot that is a number", "\"keyslots\":{", "\"keyslots\":{\"2\":5,", "keyslots.2",
            found: "the number 5",
            allowed: "an object"),
        value(
            "a keyslot without a type", "\"type\":\"luks2\",", "", "keyslots.0.type", found: "nothing",
            allowed: "this field"),
        value(
            "a type that is null", "\"type\":\"luks2\"", "\"type\":null", "keyslots.0.type", found: "null",
            allowed: "a text"),
        value(
            "a key of no bytes", "\"key_size\":64", "\"key_size\":0", "keyslots.0.key_size", found: "the number 0",
            allowed: "\(whole), 1 to 512"),
        value(
            "a key of 4 GB", "\"key_size\":64", "\"key_size\":4000000000", "keyslots.0.key_size",
            found: "the number 4000000000", allowed: "\(whole), 1 to 512"),
        value(
            "a key size of 2^32 and 64", "\"key_size\":64", "\"key_size\":4294967360", "keyslots.0.key_size",
            found: "the number 4294967360", allowed: "\(whole), 1 to 512"),
        value(
            "a negative key size", "\"key_size\":64", "\"key_size\":-64", "keyslots.0.key_size",
            found: "the number -64",
            allowed: "\(whole), 1 to 512"),
        value(
            "a key size with a fraction", "\"key_size\":64", "\"key_size\":64.0", "keyslots.0.key_size",
            found: "the number 64.0", allowed: "\(whole), 1 to 512"),
        value(
            "a key size with an exponent", "\"key_size\":64", "\"key_size\":6e1", "keyslots.0.key_size",
            found: "the number 6e1", allowed: "\(whole), 1 to 512"),
        value(
            "a key size in quotes", "\"key_size\":64", "\"key_size\":\"64\"", "keyslots.0.key_size", found: "\"64\"",
            allowed: "\(whole), 1 to 512"),
        value(
            "a priority of 3", "\"priority\":2", "\"priority\":3", "keyslots.1.priority", found: "the number 3",
            allowed: "\(whole), 0 to 2"),
        value(
            "one stripe too few", "\"stripes\":4000", "\"stripes\":3999", "keyslots.0.af.stripes",
            found: "the number 3999",
            allowed: "the number 4000"),
        value(
            "stripes in quotes", "\"stripes\":4000", "\"stripes\":\"4000\"", "keyslots.0.af.stripes", found: "\"4000\"",
            allowed: "the number 4000"),
        value(
            "a split hash with spaces", "\"hash\":\"sha256\"}", "\"hash\":\"sha 256\"}", "keyslots.0.af.hash",
            found: "\"sha 256\"", allowed: "a name of up to 128 ASCII characters without spaces"),
    ]

    private static let areas = [
        value(
            "an area without an offset", "\"offset\":\"32768\",", "", "keyslots.0.area.offset", found: "nothing",
            allowed: "this field"),
        value(
            "an offset without quotes", "\"32768\"", "32768", "keyslots.0.area.offset", found: "the number 32768",
            allowed: digits),
        value(
            "a negative offset", "\"32768\"", "\"-32768\"", "keyslots.0.area.offset", found: "\"-32768\"",
            allowed: digits),
        value(
            "an offset with a plus sign", "\"32768\"", "\"+32768\"", "keyslots.0.area.offset", found: "\"+32768\"",
            allowed: digits),
        value(
            "a hexadecimal offset", "\"32768\"", "\"0x8000\"", "keyslots.0.area.offset", found: "\"0x8000\"",
            allowed: digits),
        value("an empty offset", "\"32768\"", "\"\"", "keyslots.0.area.offset", found: "\"\"", allowed: digits),
        value(
            "an offset of 2^64", "\"32768\"", "\"18446744073709551616\"", "keyslots.0.area.offset",
            found: "\"18446744073709551616\"", allowed: digits),
        value(
            "an area in the header", "\"32768\"", "\"4096\"", "keyslots.0.area.offset", found: "\"4096\"",
            allowed: "a multiple of 512 in the keyslots area, which is from 32768 to 557056"),
        value(
            "an area beyond the keyslots area", "\"32768\"", "\"557056\"", "keyslots.0.area.offset",
            found: "\"557056\"",
            allowed: "a multiple of 512 in the keyslots area, which is from 32768 to 557056"),
        value(
            "an area that is not aligned", "\"32768\"", "\"32769\"", "keyslots.0.area.offset", found: "\"32769\"",
            allowed: "a multiple of 512 in the keyslots area, which is from 32768 to 557056"),
        value(
            "an area of no bytes", "\"258048\"", "\"0\"", "keyslots.0.area.size", found: "\"0\"", allowed: "1 to 524288"
        ),
        value(
            "an area that ends beyond the keyslots area", "\"258048\"", "\"524800\"", "keyslots.0.area.size",
            found: "\"524800\"", allowed: "1 to 524288, up to the end of the keyslots area at 557056"),
        value(
            "an area that ends beyond 2^64", "\"258048\"", "\"18446744073709551615\"", "keyslots.0.area.size",
            found: "\"18446744073709551615\"", allowed: "1 to 524288, up to the end of the keyslots area at 557056"),
        value(
            "an area that is too small for its key", "\"258048\"", "\"255488\"", "keyslots.0.area.size",
            found: "\"255488\"",
            allowed: "at least \"256000\" for a key of 64 bytes in 4000 parts"),
        value(
            "two areas that overlap", "\"290816\"", "\"290304\"", "keyslots.1.area.offset", found: "\"290304\"",
            allowed: "a place that is not in the area of keyslot 0, which ends at 290816"),
        value(
            "two areas in one place", "\"290816\"", "\"32768\"", "keyslots.1.area.offset", found: "\"32768\"",
            allowed: "a place that is not in the area of keyslot 0, which ends at 290816"),
        value(
            "an area of another type in that of a keyslot", "\"keyslots\":{",
            "\"keyslots\":{\"2\":{\"type\":\"reencrypt\",\"key_size\":1,\"area\":{\"type\":\"none\",\"offset\":\"33280\",\"size\":\"512\"}},",
            "keyslots.2.area.offset", found: "\"33280\"",
            allowed: "a place that is not in the area of keyslot 0, which ends at 290816"),
        beyondFile,
        value(
            "an area without a cipher", "\"encryption\":\"aes-xts-plain64\"", "\"encryption\":\"\"",
            "keyslots.0.area.encryption", found: "\"\"",
            allowed: "a name of up to 128 ASCII characters without "
                + "spaces"),
        value(
            "a key for the area of no bytes", "\"key_size\":64},\"kdf\"", "\"key_size\":0},\"kdf\"",
            "keyslots.0.area.key_size", found: "the number 0", allowed: "\(whole), 1 to 512"),
    ]

    /// The header alone would fit.
    private static var beyondFile: LUKSDamage {
        var fixture = LUKS2Fixture()
        let original = fixture.image
        fixture.fileSize = 400_000
        return LUKSDamage(
            "a file that ends in a keyslot", 2, original, fixture.image,
            "LUKS2 metadata: keyslots.1.area.size at byte 4096: found 258048 bytes at 290816, allowed an area within "
                + "the 400000 bytes that hold the header")
    }

    private static let derivations = [
        value(
            "no iterations", "\"iterations\":1000", "\"iterations\":0", "keyslots.0.kdf.iterations",
            found: "the number 0",
            allowed: "\(whole), at least 1"),
        value(
            "more than 2^32 iterations", "\"iterations\":1000", "\"iterations\":4294967296",
            "keyslots.0.kdf.iterations",
            found: "the number 4294967296", allowed: "\(whole), at least 1"),
        value(
            "an Argon2 of no time", "\"time\":4", "\"time\":0", "keyslots.1.kdf.time", found: "the number 0",
            allowed: "\(whole), at least 1"),
        value(
            "an Argon2 of no memory", "\"memory\":1024", "\"memory\":0", "keyslots.1.kdf.memory", found: "the number 0",
            allowed: "\(whole), at least 1"),
        value(
            "an Argon2 without threads", "\"cpus\":2,", "", "keyslots.1.kdf.cpus", found: "nothing",
            allowed: "this field"),
        value(
            "a salt that is not base64", "\"salt\":\"AAEC", "\"salt\":\"A*EC", "keyslots.0.kdf.salt",
            found: "\"A*ECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"", allowed: "8 to 64 bytes in base64"),
        value(
            "a salt without its padding", "HR4f=\"".replacing("HR4f", with: "Hh8"), "Hh8\"", "keyslots.0.kdf.salt",
            found: "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"", allowed: "8 to 64 bytes in base64"),
        value(
            "an empty salt", "\"salt\":\"\(salt)\"", "\"salt\":\"\"", "keyslots.0.kdf.salt", found: "\"\"",
            allowed: "8 to 64 bytes in base64"),
        value(
            "a salt of 66 bytes", "\"salt\":\"\(salt)\"", "\"salt\":\"\(String(repeating: "A", count: 88))\"",
            "keyslots.0.kdf.salt", found: "\"\(String(repeating: "A", count: 88))\"", allowed: "8 to 64 bytes in base64"
        ),
    ]
}
