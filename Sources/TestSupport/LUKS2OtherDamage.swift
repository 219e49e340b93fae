// SPDX-License-Identifier: Apache-2.0

extension LUKSDamage {
    private static let salt = LUKS2Fixture.salt

    /// Faults of digests, tokens and the configuration.
    static let luks2Others: [LUKSDamage] = digests + tokens + configuration

    private static let digests = [
        value("no digests section", "\"digests\"", "\"digest\"", "digests", found: "nothing", allowed: "this field"),
        value(
            "a digest with the number 8", "\"digests\":{\"0\"", "\"digests\":{\"8\"", "digests", found: "the key \"8\"",
            allowed: "keys from \"0\" to \"7\""),
        value(
            "a segment without a digest", "\"segments\":[\"0\"]", "\"segments\":[]", "segments.0",
            found: "a segment that no digest names", allowed: "one digest for the key of an encrypted segment"),
        json(
            "a segment with two digests",
            "segments.0 at byte 4096: found a segment that 2 digests name, allowed one digest"
        ) {
            let start = $0.firstRange(of: "\"digests\":{")?.upperBound ?? $0.startIndex
            let end = $0.firstRange(of: "},\"config\"")?.lowerBound ?? $0.endIndex
            let second = $0[start..<end].replacing("\"0\":{", with: "\"1\":{")
            return "\($0[..<end]),\(second)\($0[end...])"
        },
        value(
            "a digest of a type that is not known", "\"type\":\"pbkdf2\",\"keyslots\"",
            "\"type\":\"argon2id\",\"keyslots\"",
            "digests.0.type", found: "\"argon2id\"", allowed: "\"pbkdf2\""),
        value(
            "a digest that names a keyslot that is not there", "[\"0\",\"1\"]", "[\"0\",\"2\"]", "digests.0.keyslots",
            found: "\"2\"", allowed: "numbers of keyslots that exist, in quotes"),
        value(
            "a digest that names a keyslot twice", "[\"0\",\"1\"]", "[\"0\",\"0\"]", "digests.0.keyslots",
            found: "\"0\" twice",
            allowed: "each number once"),
        value(
            "a digest that names a keyslot without quotes", "[\"0\",\"1\"]", "[\"0\",1]", "digests.0.keyslots.1",
            found: "the number 1", allowed: "a text"),
        value(
            "a digest that names 33 keyslots", "[\"0\",\"1\"]",
            "[\(Array(repeating: "\"0\"", count: 33).joined(separator: ","))]",
            "digests.0.keyslots", found: "an array of 33 elements", allowed: "at most 32"),
        value(
            "a digest that names a segment that is not there", "\"segments\":[\"0\"]", "\"segments\":[\"0\",\"1\"]",
            "digests.0.segments", found: "\"1\"", allowed: "numbers of segments that exist, in quotes"),
        value(
            "a digest of no iterations", "\"iterations\":2000", "\"iterations\":0", "digests.0.iterations",
            found: "the number 0", allowed: "a whole number, not in quotes, at least 1"),
        value(
            "a digest of three bytes", "\"digest\":\"\(salt)\"", "\"digest\":\"AAEC\"", "digests.0.digest",
            found: "\"AAEC\"",
            allowed: "16 to 64 bytes in base64"),
        value(
            "a digest without a salt", "\"salt\":\"\(salt)\",\"digest\"", "\"digest\"", "digests.0.salt",
            found: "nothing",
            allowed: "this field"),
    ]

    private static let tokens = [
        value("no tokens section", "\"tokens\"", "\"token\"", "tokens", found: "nothing", allowed: "this field"),
        value(
            "a token with the number 32", "\"tokens\":{\"0\"", "\"tokens\":{\"32\"", "tokens", found: "the key \"32\"",
            allowed: "keys from \"0\" to \"31\""),
        value(
            "a token without a type", "\"type\":\"luks2-keyring\",", "", "tokens.0.type", found: "nothing",
            allowed: "this field"),
        value(
            "a token without keyslots", "\"keyslots\":[\"1\"],", "", "tokens.0.keyslots", found: "nothing",
            allowed: "this field"),
        value(
            "a token of a keyslot that is not there", "\"keyslots\":[\"1\"]", "\"keyslots\":[\"7\"]",
            "tokens.0.keyslots",
            found: "\"7\"", allowed: "numbers of keyslots that exist, in quotes"),
    ]

    private static let configuration = [
        value(
            "no config section", "\"config\"", "\"configuration\"", "config", found: "nothing", allowed: "this field"),
        value(
            "a wrong size of the JSON area", "\"json_size\":\"12288\"", "\"json_size\":\"16384\"", "config.json_size",
            found: "\"16384\"", allowed: "\"12288\", the size of the area in the binary header"),
        value(
            "a size of the JSON area without quotes", "\"json_size\":\"12288\"", "\"json_size\":12288",
            "config.json_size",
            found: "the number 12288", allowed: "decimal digits in quotes, less than 2^64"),
        value(
            "a keyslots area that is not aligned", "\"524288\"", "\"524800\"", "config.keyslots_size",
            found: "\"524800\"",
            allowed: "a multiple of 4096, at most 134217728"),
        value(
            "a keyslots area that is too large", "\"524288\"", "\"134221824\"", "config.keyslots_size",
            found: "\"134221824\"", allowed: "a multiple of 4096, at most 134217728"),
        value(
            "no size of the keyslots area", ",\"keyslots_size\":\"524288\"", "", "config.keyslots_size",
            found: "nothing",
            allowed: "this field"),
        value(
            "a keyslots area that reaches into the data", "\"524288\"", "\"1048576\"", "segments.0.offset",
            found: "\"1048576\"", allowed: "at least 1081344, where the header ends"),
        value(
            "flags that are a text", "\"config\":{", "\"config\":{\"flags\":\"allow-discards\",", "config.flags",
            found: "\"allow-discards\"", allowed: "an array of texts"),
        value(
            "requirements that are a text", "\"config\":{", "\"config\":{\"requirements\":\"opal\",",
            "config.requirements",
            found: "\"opal\"", allowed: "an object"),
        value(
            "a requirement that is a number", "\"config\":{", "\"config\":{\"requirements\":{\"mandatory\":[1]},",
            "config.requirements.mandatory.0", found: "the number 1", allowed: "a text"),
    ]
}
