// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing

@Suite struct StrictJSONTests {
    private static func read(_ text: String) throws(JSONFault) -> [String: JSONValue] {
        try StrictJSON.read(area: Array(text.utf8) + [0, 0])
    }

    @Test func `every kind of value is read`() throws {
        let text = "{ \"a\" : [ 1 , -0.5e+3 , true ,\tfalse,\r\nnull ] , \"b\" : { } , \"c\":[], \"\":\"\" }"
        #expect(
            try Self.read(text) == [
                "a": .array([.number("1"), .number("-0.5e+3"), .bool(true), .bool(false), .null]), "b": .object([:]),
                "c": .array([]), "": .string(""),
            ])
    }

    @Test func `escapes are resolved, and text of any language is kept`() throws {
        let text = "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\ud83d\\ude00 é€😀\"}"
        #expect(try Self.read(text) == ["a": .string("\"\\/\u{8}\u{C}\n\r\tAé€😀 é€😀")])
    }

    @Test func `32 levels are read, 33 are not`() throws {
        let nested = { (depth: Int) in
            "{\"a\":\(String(repeating: "[", count: depth - 1))\(String(repeating: "]", count: depth - 1))}"
        }
        #expect(try Self.read(nested(32)).count == 1)
        #expect(throws: JSONFault.self) { try Self.read(nested(33)) }
    }

    @Test func `reading half of a text never reads past its end`() {
        let text = Array("{\"a\":[1.5e-3,\"\\ud83d\\ude00\\n\",true,{\"b\":null}]}".utf8)
        for count in 0..<text.count {
            #expect(throws: JSONFault.self) { try StrictJSON.read(area: Array(text[..<count])) }
            #expect(throws: JSONFault.self) { try StrictJSON.read(area: Array(text[..<count]) + [0]) }
        }
    }

    @Test func `a text may have space around the object, and nothing else`() throws {
        for text in ["{\"a\":1}", " \n{\"a\":1}\t\r"] {
            #expect(try StrictJSON.read(text: Array(text.utf8)) == ["a": .number("1")])
        }
        for text in ["", " ", "[]", "{\"a\":1}x", "{\"a\":1}\0", "{} {}", "'a'"] {
            #expect(throws: JSONFault.self) { try StrictJSON.read(text: Array(text.utf8)) }
        }
    }
}
