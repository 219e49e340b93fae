// SPDX-License-Identifier: Apache-2.0

extension LUKSDamage {
    private static let crypt = "\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\",\"sector_size\":512"
    private static let digits = "decimal digits in quotes, less than 2^64"

    /// Other segments instead of the one that there is; a digest names all of them.
    private static func segments(
        _ description: String, _ segments: [(Int, String)], _ path: String, found: String, allowed: String
    ) -> LUKSDamage {
        json(description, "\(path) at byte 4096: found \(found), allowed \(allowed)") { json in
            let start = json.firstRange(of: "\"segments\":")?.upperBound ?? json.startIndex
            let end = json.firstRange(of: ",\"digests\":")?.lowerBound ?? json.endIndex
            let names = segments.map { "\"\($0.0)\"" }.joined(separator: ",")
            let object = segments.map { "\"\($0.0)\":{\($0.1)}" }.joined(separator: ",")
            return (json[..<start] + "{\(object)}" + json[end...])
                .replacing("\"segments\":[\"0\"]", with: "\"segments\":[\(names)]")
        }
    }

    private static func crypt(_ offset: Int, _ size: String, _ more: String = "") -> String {
        "\"type\":\"crypt\",\"offset\":\"\(offset)\",\"size\":\"\(size)\",\(crypt)\(more)"
    }

    /// Faults of segments.
    static let luks2Segments: [LUKSDamage] = fields + several

    private static let fields = [
        segments("no segment", [], "segments", found: "no segment", allowed: "at least one segment that is no backup"),
        value(
            "no segments section", "\"segments\":{", "\"segment\":{", "segments", found: "nothing",
            allowed: "this field"),
        value(
            "a segment without a type", "\"type\":\"crypt\",", "", "segments.0.type", found: "nothing",
            allowed: "this field"),
        value(
            "an offset of a segment without quotes", "\"1048576\"", "1048576", "segments.0.offset",
            found: "the number 1048576", allowed: digits),
        value(
            "a segment that is not aligned", "\"1048576\"", "\"1048577\"", "segments.0.offset", found: "\"1048577\"",
            allowed: "a multiple of 512"),
        value(
            "a segment in the header", "\"1048576\"", "\"524288\"", "segments.0.offset", found: "\"524288\"",
            allowed: "at least 557056, where the header ends"),
        value(
            "a segment at the start of the file", "\"1048576\"", "\"0\"", "segments.0.offset", found: "\"0\"",
            allowed: "at least 557056, where the header ends"),
        value(
            "a segment beyond the file", "\"1048576\"", "\"2097152\"", "segments.0.offset", found: "data at 2097152",
            allowed: "data within the 2097152 bytes of the device"),
        value(
            "a segment that is cut in its first sector", "\"1048576\"", "\"2096640\"", "segments.0.offset",
            found: "data at 2096640", allowed: "data within the 2097152 bytes of the device"),
        value(
            "a segment at 2^64 - 512", "\"1048576\"", "\"18446744073709551104\"", "segments.0.offset",
            found: "data at 18446744073709551104", allowed: "data within the 2097152 bytes of the device"),
        value(
            "a segment of no bytes", "\"dynamic\"", "\"0\"", "segments.0.size", found: "\"0\"",
            allowed: "\"dynamic\" or a multiple of 4096, more than 0"),
        value(
            "a segment of half a sector", "\"dynamic\"", "\"2048\"", "segments.0.size", found: "\"2048\"",
            allowed: "\"dynamic\" or a multiple of 4096, more than 0"),
        value(
            "a segment that ends beyond the file", "\"dynamic\"", "\"1052672\"", "segments.0.size",
            found: "1052672 bytes at 1048576", allowed: "data within the 2097152 bytes of the device"),
        value(
            "a segment that ends beyond 2^64", "\"dynamic\"", "\"18446744073709547520\"", "segments.0.size",
            found: "\"18446744073709547520\"", allowed: "an end that is less than 2^64"),
        value(
            "a size that is a number", "\"dynamic\"", "4096", "segments.0.size", found: "the number 4096",
            allowed: "a text"),
        value(
            "a size that is another word", "\"dynamic\"", "\"static\"", "segments.0.size", found: "\"static\"",
            allowed: digits),
        value(
            "a sector size of 0", "\"sector_size\":4096", "\"sector_size\":0", "segments.0.sector_size",
            found: "the number 0", allowed: "512, 1024, 2048 or 4096"),
        value(
            "a sector size of 8192", "\"sector_size\":4096", "\"sector_size\":8192", "segments.0.sector_size",
            found: "the number 8192", allowed: "512, 1024, 2048 or 4096"),
        value(
            "a sector size of 1536", "\"sector_size\":4096", "\"sector_size\":1536", "segments.0.sector_size",
            found: "the number 1536", allowed: "512, 1024, 2048 or 4096"),
        value(
            "a sector size in quotes", "\"sector_size\":4096", "\"sector_size\":\"4096\"", "segments.0.sector_size",
            found: "\"4096\"", allowed: "a whole number, not in quotes, at least 0"),
        value(
            "an iv_tweak without quotes", "\"iv_tweak\":\"0\"", "\"iv_tweak\":0", "segments.0.iv_tweak",
            found: "the number 0",
            allowed: digits),
        value("no iv_tweak", "\"iv_tweak\":\"0\",", "", "segments.0.iv_tweak", found: "nothing", allowed: "this field"),
        value(
            "a cipher that is an object", "\"encryption\":\"aes-xts-plain64\",\"sector_size\"",
            "\"encryption\":{},\"sector_size\"",
            "segments.0.encryption", found: "an object", allowed: "a text"),
    ]

    private static let several = [
        segments(
            "a gap between segments", [(0, crypt(1_048_576, "512")), (2, crypt(1_050_000 / 512 * 512, "dynamic"))],
            "segments", found: "segment 2 after 1 segments", allowed: "numbers from 0 on without a gap"),
        segments(
            "segments that do not start at 0", [(1, crypt(1_048_576, "dynamic"))],
            "segments", found: "segment 1 after 0 segments", allowed: "numbers from 0 on without a gap"),
        segments(
            "a dynamic segment before another", [(0, crypt(1_048_576, "dynamic")), (1, crypt(1_572_864, "dynamic"))],
            "segments.0.size", found: "\"dynamic\"", allowed: "a size in bytes: only the last segment may be dynamic"),
        segments(
            "segments that overlap", [(0, crypt(1_048_576, "8192")), (1, crypt(1_056_256, "dynamic"))],
            "segments.1.offset", found: "\"1056256\"", allowed: "at least 1056768, where segment 0 ends"),
        segments(
            "segments in the wrong order", [(0, crypt(1_572_864, "8192")), (1, crypt(1_048_576, "dynamic"))],
            "segments.1.offset", found: "\"1048576\"", allowed: "at least 1581056, where segment 0 ends"),
        segments(
            "nothing but a backup segment", [(0, crypt(1_048_576, "dynamic", ",\"flags\":[\"backup-previous\"]"))],
            "segments", found: "no segment", allowed: "at least one segment that is no backup"),
        segments(
            "a backup segment before another",
            [
                (0, crypt(1_048_576, "512")), (1, crypt(1_048_576, "dynamic", ",\"flags\":[\"backup-final\"]")),
                (2, crypt(1_049_088, "dynamic")),
            ], "segments", found: "segment 2 behind a backup segment", allowed: "backup segments at the end"),
        segments(
            "flags that are no array", [(0, crypt(1_048_576, "dynamic", ",\"flags\":{}"))],
            "segments.0.flags", found: "an object", allowed: "an array of texts"),
        segments(
            "33 segments", (0..<33).map { ($0, crypt(1_048_576 + 512 * $0, "512")) }, "segments",
            found: "the key \"32\"", allowed: "keys from \"0\" to \"31\""),
    ]
}
