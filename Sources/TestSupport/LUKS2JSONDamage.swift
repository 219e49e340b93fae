// SPDX-License-Identifier: Apache-2.0

extension LUKSDamage {
    /// A LUKS2 header with JSON of its own in both copies, and right checksums.
    static func json(
        _ description: String, _ sentence: String, padding: UInt8 = 0, copySize: Int = 16384,
        _ change: (String) -> String
    ) -> LUKSDamage {
        var fixture = LUKS2Fixture()
        fixture.copySize = copySize
        let original = fixture.image
        fixture.json = change(fixture.json)
        fixture.padding = padding
        return LUKSDamage(description, 2, original, fixture.image, "LUKS2 metadata: \(sentence)")
    }

    /// A value of the JSON replaced: `old` by `new` where it is first.
    static func value(
        _ description: String, _ old: String, _ new: String, _ path: String, found: String, allowed: String
    ) -> LUKSDamage {
        json(description, "\(path) at byte 4096: found \(found), allowed \(allowed)") {
            $0.replacing(old, with: new, maxReplacements: 1)
        }
    }

    /// Something inserted before the last brace, as a value of the key "x".
    ///
    /// - Parameter position: of the fault, in bytes from the start of the value.
    private static func extra(
        _ description: String, at position: Int = 0, _ sentence: String, copySize: Int = 16384, _ text: String
    ) -> LUKSDamage {
        json(description, "JSON at byte \(end + 4 + position): \(sentence)", copySize: copySize) {
            "\($0.dropLast()),\"x\":\(text)}"
        }
    }

    /// Faults of the JSON as such.
    static let luks2JSON: [LUKSDamage] = forms + bombs + texts

    private static let forms = [
        json("no JSON", "JSON at byte 4096: found byte 0, allowed { as the first byte") { _ in "" },
        json("a space before the JSON", "JSON at byte 4096: found byte 32, allowed { as the first byte") { " \($0)" },
        json("an array for an object", "JSON at byte 4096: found \"[\", allowed { as the first byte") { "[\($0)]" },
        json("JSON without its end", "JSON at byte \(end - 1): found byte 0, allowed a comma or }") {
            "\($0.dropLast())"
        },
        json("JSON that ends early", "JSON at byte 4196: found byte 0, allowed a key in quotes") {
            "\($0.prefix(100))"
        },
        json("a line feed behind the JSON", "JSON at byte \(end): found byte 10, allowed nothing but NUL bytes") {
            "\($0)\n"
        },
        json("another object behind the JSON", "JSON at byte \(end): found \"{\", allowed nothing but NUL bytes") {
            "\($0){}"
        },
        json(
            "spaces up to the end of the area", "JSON at byte \(end): found byte 32, allowed nothing but NUL",
            padding: 32
        ) {
            $0
        },
        json("JSON that fills its area", "JSON at byte 16384: found the end of the area, allowed a NUL byte behind the")
        {
            let missing = 12288 - $0.utf8.count - ",\"x\":\"\"".utf8.count
            return "\($0.dropLast()),\"x\":\"\(String(repeating: "x", count: missing))\"}"
        },
        json(
            "JSON that is longer than its area",
            "JSON at byte 16384: found the end of the area, allowed the end of a text that"
        ) {
            "\($0.dropLast()),\"x\":\"\(String(repeating: "x", count: 12288))\"}"
        },
        extra(
            "a key twice", at: 2, "found the key \"config\" a second time, allowed each key once in an object",
            "1,\"config\":{}"),
        extra(
            "a key twice in an unknown object", at: 7, "found the key \"y\" a second time, allowed each key",
            "{\"y\":1,\"y\":1}"),
        extra("a comma too many in an object", at: 7, "found \"}\", allowed a key in quotes", "{\"y\":1,}"),
        extra("a comma too many in an array", at: 3, "found \"]\", allowed a value", "[1,]"),
        extra("a comment", "found \"/\", allowed a value", "/* */ 1"),
        extra("a key without quotes", at: 1, "found \"y\", allowed a key in quotes", "{y:1}"),
        extra("NaN", "found \"N\", allowed a value", "NaN"),
        extra("a cut word", "found \"t\", allowed a value", "tru"),
    ]

    /// Where the JSON of the fixture ends in the file.
    private static var end: Int { 4096 + LUKS2Fixture.goodJSON.utf8.count }

    private static let bombs = [
        extra(
            "arrays in arrays", at: 31, "found objects and arrays more than 32 deep, allowed at most 32",
            String(repeating: "[", count: 5000) + String(repeating: "]", count: 5000)),
        extra(
            "arrays in arrays without end", at: 31, "found objects and arrays more than 32 deep",
            String(repeating: "[", count: 9000)),
        extra(
            "objects in objects", at: 124, "found objects and arrays more than 32 deep, allowed at most 32",
            String(repeating: "{\"\":", count: 1000) + "1" + String(repeating: "}", count: 1000)),
        extra(
            "more values than anybody needs", at: 32631, "found more than 16384 values, allowed at most 16384",
            copySize: 1 << 20,
            "[\(String(repeating: "0,", count: 100_000))0]"),
        extra(
            "a text without end", "found a text of more than 262144 bytes, allowed at most 262144", copySize: 1 << 20,
            "\"\(String(repeating: "x", count: 600_000))\""),
        extra(
            "a number without end", "found a number of 5000 characters, allowed at most 64",
            String(repeating: "9", count: 5000)),
    ]

    private static let texts = [
        extra("a number with a leading zero", at: 1, "found \"1\", allowed a number without leading zeros", "01"),
        extra("a number with a plus sign", "found \"+\", allowed a value", "+1"),
        extra("a number that ends in its point", at: 2, "found \"}\", allowed a digit", "1."),
        extra("a hexadecimal number", at: 1, "found \"x\", allowed a comma or }", "0x10"),
        extra(
            "a control character in a text", at: 1, "found byte 9, allowed text without control characters", "\"\t\""),
        extra("an escape that there is not", at: 2, "found \"x\", allowed an escape that JSON has", "\"\\x41\""),
        extra(
            "half a surrogate pair", at: 2, "found an escape that is no character, allowed one character", "\"\\ud800\""
        ),
        extra(
            "a surrogate pair of the wrong halves", at: 2, "found an escape that is no character", "\"\\ud800\\ud800\""),
        extra("an escape with a letter", at: 5, "found \"g\", allowed four hexadecimal digits", "\"\\u00g0\""),
        extra(
            "an escaped NUL character", at: 2,
            "found an escape that is no character, allowed one character, and not NUL",
            "\"\\u0000\""),
        notUTF8,
    ]

    /// A string of Swift cannot hold it, so it is put in behind.
    private static var notUTF8: LUKSDamage {
        let fixture = LUKS2Fixture()
        var image = fixture.image
        let parts = LUKS2Fixture.goodJSON.split(separator: "\"description\"")
        let start = parts[0].utf8.count
        for offset in [0, fixture.copySize] { image.put([0xC0, 0xAF], at: offset + 4096 + start + 1) }
        LUKS2Fixture.sign(&image, fixture.copySize)
        return LUKSDamage(
            "a text that is not UTF-8", 2, fixture.image, image,
            "LUKS2 metadata: JSON at byte \(4096 + start): found a text that is not UTF-8, allowed valid UTF-8")
    }
}
