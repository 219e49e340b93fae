// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@testable import nbdecrypt

/// How NBD URIs are written, rule by rule (RFC 3986; doc/uri.md of the NBD project; nbd_connect_uri(3)).
@Suite struct URITests {
    @Test func `the scheme says the transport, and whether TLS is a must`() {
        func schemes(_ place: NBDURI.Place) -> [String?] {
            [false, true].map { URL(string: NBDURI(place: place, isEncrypted: $0).description)?.scheme }
        }
        #expect(schemes(.tcp(host: "a", port: 1)) == ["nbd", "nbds"])
        #expect(schemes(.unix(path: "/a")) == ["nbd+unix", "nbds+unix"])
        #expect(schemes(.vsock(cid: 2, port: 1)) == ["nbd+vsock", "nbds+vsock"])
    }

    @Test func `the port is always there, and the default export is an empty path`() {
        #expect(NBDURI(place: .tcp(host: "127.0.0.1", port: 10809)).description == "nbd://127.0.0.1:10809/")
        #expect(NBDURI(place: .vsock(cid: 3, port: 99_999_999)).description == "nbd+vsock://3:99999999/")
    }

    @Test func `a host is a name, an IPv4 address, or an IPv6 address in brackets with an encoded zone (RFC 6874)`() {
        func authority(_ host: String) -> String { NBDURI(place: .tcp(host: host, port: 1)).description }
        #expect(authority("disk.example.org") == "nbd://disk.example.org:1/")
        #expect(authority("192.0.2.1") == "nbd://192.0.2.1:1/")
        #expect(authority("2001:db8::1") == "nbd://[2001:db8::1]:1/")
        #expect(authority("fe80::1%eth0") == "nbd://[fe80::1%25eth0]:1/")
        #expect(authority("fe80::1%a/b") == "nbd://[fe80::1%25a%2Fb]:1/")
        #expect(authority("a/b") == "nbd://a%2Fb:1/")
    }

    @Test func `an export name keeps unreserved characters and slashes, and nothing else (RFC 3986, section 2)`() {
        func path(_ name: String) -> String {
            String(NBDURI(place: .tcp(host: "h", port: 1), exportName: name).description.dropFirst("nbd://h:1/".count))
        }
        #expect(path("azAZ09-._~/") == "azAZ09-._~/")
        #expect(path("/disk") == "/disk")
        #expect(
            path(" !\"#$%&'()*+,:;<=>?@[\\]^`{|}") == "%20%21%22%23%24%25%26%27%28%29%2A%2B%2C%3A%3B%3C%3D%3E%3F"
                + "%40%5B%5C%5D%5E%60%7B%7C%7D")
        #expect(path("%41") == "%2541")
        #expect(path("ü/🙂") == "%C3%BC/%F0%9F%99%82")
        #expect(path("\u{1}\n\u{7F}") == "%01%0A%7F")
    }

    @Test func `the path of a Unix socket is a parameter, and a name in the abstract namespace starts with %00`() {
        #expect(
            NBDURI(place: .unix(path: "/run/a b&c=d?e;f+g/s"), exportName: "x").description
                == "nbd+unix:///x?socket=/run/a%20b%26c%3Dd%3Fe%3Bf%2Bg/s")
        #expect(NBDURI(place: .unix(path: "\0/s")).description == "nbd+unix:///?socket=%00/s")
    }

    @Test func `a user, a file of keys and a directory of certificates are where libnbd looks for them`() {
        var uri = NBDURI(place: .unix(path: "/s"), isEncrypted: true)
        uri.user = "a:b@c/d"
        uri.keyFile = "/run/k&k"
        #expect(uri.description == "nbds+unix://a%3Ab%40c%2Fd@/?socket=/s&tls-psk-file=/run/k%26k")
        uri = NBDURI(place: .tcp(host: "::1", port: 1), exportName: "x", isEncrypted: true, user: "u")
        uri.certificates = "/etc/pki/my disk"
        #expect(uri.description == "nbds://u@[::1]:1/x?tls-certificates=/etc/pki/my%20disk")
    }

    /// Names that go wrong where something is encoded twice, or not at all.
    static let names = [
        "a b", "a/b", "/lead", "//two", "end/", "a?b", "a#b", "100%", "%41", "a&b=c;d", "a+b", "ü/日本語/🙂", "..", ".",
        "a/../b", "./x", "~x", "[x]:@!$'()*,", "-x", "\"q\"\\", "tab\there", "line\nbreak", "{^`|}<>", ":", "a:b",
    ]

    @Test func `libnbd and QEMU find the export that was named, over TCP and over a socket with a strange path`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.plain()
        let socket = directory.file("s p?a#c%41&t=+i;v:ü,'")
        for name in Self.names {
            for place in [["--socket", socket], ["--port", "0"]] {
                let outcome = try await Program.run(
                    ["serve", image, "--export-name=\(name)"] + place
                        + ["--run", "nbdinfo --json \"$uri\" && qemu-img info --output=json -f raw \"$uri\""])
                #expect(outcome.code == 0, "\(name): \(outcome.errors)")
                let json = outcome.output.components(separatedBy: "\n}\n").map { Data("\($0)\n}".utf8) }
                try #require(json.count >= 2, "\(outcome.output)")
                let libnbd = try JSONDecoder().decode(LibNBDReport.self, from: json[0])
                #expect(libnbd.exports.map(\.name) == [name])
                // QEMU shows the address as it has understood it, the name not encoded.
                let qemu = try JSONDecoder().decode(QEMUReport.self, from: json[1])
                #expect(qemu.filename.contains("/\(name)"), "\(qemu.filename)")
            }
        }
    }

    private struct LibNBDReport: Decodable {
        struct Export: Decodable {
            let name: String
            enum CodingKeys: String, CodingKey { case name = "export-name" }
        }
        let exports: [Export]
    }

    private struct QEMUReport: Decodable {
        let filename: String
    }
}
