// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing

@testable import NBDServer

@Suite struct DistinguishedNameTests {
    private static let (commonName, organization, user) = ("2.5.4.3", "2.5.4.10", "0.9.2342.19200300.100.1.1")

    @Test(arguments: [
        ("CN=a", [[(commonName, "a")]]),
        ("CN=a,O=b c", [[(commonName, "a")], [(organization, "b c")]]),
        (" cn = a , o = b c ", [[(commonName, "a")], [(organization, "b c")]]),
        ("CN=a+UID=b", [[(user, "b"), (commonName, "a")]]),
        ("1.2.3=a", [[("1.2.3", "a")]]),
        (#"CN=\ a\, \"b\" \+\ "#, [[(commonName, " a, \"b\" + ")]]),
        (##"CN=K\C3\A4se=\#"##, [[(commonName, "Käse=#")]]),
        (##"CN=\#a\0A#"##, [[(commonName, "#a\n#")]]),
        ("CN=", [[(commonName, "")]]),
    ])
    func `a name is read`(text: String, components: [[(String, String)]]) throws {
        let expected = DistinguishedName(
            components: components.map { component in component.map { .init(type: $0.0, value: $0.1) } })
        let name = try DistinguishedName(text)
        #expect(name == expected)
        #expect(try DistinguishedName(name.description) == name)
    }

    @Test(arguments: [
        ("", 1, "an attribute such as CN= must begin"),
        ("laptop", 1, "an attribute such as CN= must begin"),
        ("CN=a,", 6, "an attribute such as CN= must begin"),
        ("CN=a,,O=b", 6, "an attribute such as CN= must begin"),
        ("CN=a, b", 7, "an attribute such as CN= must begin"),
        ("=a", 1, "an attribute such as CN= must begin"),
        ("XY=a", 1, "the attribute XY is not known, write its number (OID) instead"),
        ("CN=#0401", 4, ##"a value must be text; write \# when it begins with #"##),
        ("CN=a;O=b", 5, #"\ must stand before this character"#),
        (#"CN="a""#, 4, #"\ must stand before this character"#),
        (#"CN=a\"#, 5, #"nothing follows \"#),
        (#"CN=a\x"#, 5, #"what follows \ is neither special nor two hexadecimal digits"#),
        (#"CN=a\4"#, 5, #"what follows \ is neither special nor two hexadecimal digits"#),
        (#"CN=a\FF"#, 4, "the value is not UTF-8"),
    ])
    func `what is wrong with a name is told with its place`(text: String, place: Int, what: String) {
        #expect(
            throws: TLSError(
                "\(remedy: .allowName(nil)) \(text): at character \(place), \(what); "
                    + "write it like CN=laptop.example.com,O=Example Home, the most specific first")
        ) { try DistinguishedName(text) }
    }

    @Test(arguments: [
        ("CN=a", "CN=A"), ("CN=a", "CN=a,O=b"), ("CN=a,O=b", "O=b,CN=a"), ("CN=a", "O=a"), ("CN=a", #"CN=a\ "#),
        ("CN=a+UID=b", "CN=a,UID=b"), ("CN=a\u{308}", "CN=\u{E4}"),
    ])
    func `names that differ anywhere are not equal`(one: String, other: String) throws {
        #expect(try DistinguishedName(one) != DistinguishedName(other))
    }

    @Test func `the order within a component does not count`() throws {
        #expect(try DistinguishedName("CN=a+UID=b,O=c") == DistinguishedName("UID=b+CN=a,O=c"))
    }

    @Test func `a name is shown without what a terminal obeys`() {
        let name = DistinguishedName(components: [[.init(type: Self.commonName, value: "a\u{1B}[2J\n\u{202E}b")]])
        #expect(name.description == #"CN=a\1B[2J\0A\E2\80\AEb"#)
    }
}
