// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The clients that people use, over TLS; all of them use GnuTLS.
@Suite(.fewAtATime)
struct TLSClientTests {
    /// How a client connects.
    struct Way: Sendable, CustomTestStringConvertible {
        let isUnix: Bool
        let hasKey: Bool
        let version: TLSCredentials.Version
        var testDescription: String {
            "\(isUnix ? "Unix socket" : "TCP"), \(hasKey ? "key" : "certificates"), TLS \(version.rawValue)"
        }
    }

    static let ways = [false, true].flatMap { isUnix in
        [false, true].flatMap { hasKey in
            [TLSCredentials.Version.old, .new].map { Way(isUnix: isUnix, hasKey: hasKey, version: $0) }
        }
    }

    @Test(arguments: [true, false])
    func `an idle client over TLS does not hold up the end`(isUnix: Bool) async throws {
        try await TLSTestBed.run { bed in
            let place = isUnix ? ["--socket", bed.directory.file("s")] : []
            var start = ContinuousClock.now
            var client: LibNBDClient?
            try await bed.serve(place + bed.keys + ["--tls", "require"]) { server in
                let idle = try LibNBDClient(try bed.credentials.uri(server, .alice))
                #expect(try idle.read(4096, at: 0) == bed.contents.prefix(4096))
                client = idle
                start = .now
            }
            // It has not hung up before.
            withExtendedLifetime(client) { #expect(ContinuousClock.now - start < .seconds(4)) }
        }
    }

    @Test(arguments: ways)
    func `nbdinfo, nbdcopy and qemu-img see the disk, and the log says who they are`(_ way: Way) async throws {
        try await TLSTestBed.run { bed in
            let place = way.isUnix ? ["--socket", bed.directory.file("s")] : []
            let options = way.hasKey ? bed.keys : bed.certificates() + ["--tls-verify-peer"]
            let client = way.hasKey ? TLSCredentials.Client.alice : .laptop
            let environment = bed.credentials.environment(way.version)
            try await bed.serve(place + options) { server in
                let uri = try bed.credentials.uri(server, client)
                let info = try await Tool.succeed("nbdinfo", ["--json", uri], environment: environment)
                #expect(info.contains(#""TLS": true"#) && info.contains("\"export-size\": \(bed.contents.count)"))
                #expect(try await Tool.succeed("nbdinfo", ["--list", uri], environment: environment).contains("TLS"))

                let copies = ["nbdcopy", "qemu-img"].map { bed.directory.file("\($0).raw") }
                try await Tool.succeed("nbdcopy", [uri, copies[0]], environment: environment)
                let source = try bed.credentials.qemuArguments(server, client)
                try await Tool.succeed(
                    "qemu-img", ["convert", "-O", "raw"] + source + [copies[1]], environment: environment)
                for copy in copies {
                    #expect(Difference.describe(try File.contents(copy), bed.contents) == nil, "\(copy)")
                }
                let name = way.hasKey ? "\"alice\"" : "CN=laptop,O=Example Home,C=GB"
                try await bed.expectLog(server, ["TLSv\(way.version.rawValue) ", " with \(name)"], count: 4)

                // The programs do keep to the version they are told.
                let none = try await Tool.run("nbdinfo", [uri], environment: bed.credentials.environment(.none))
                #expect(none.code != 0, "\(none.output)")
            }
        }
    }

    @Test(arguments: [TLSCredentials.Version.old, .new])
    func `four connections copy 64 MiB of noise`(_ version: TLSCredentials.Version) async throws {
        try await TLSTestBed.run(size: 64 << 20) { bed in
            try await bed.serve(bed.keys) { server in
                let copy = bed.directory.file("copy.raw")
                try await Tool.succeed(
                    "nbdcopy",
                    ["--connections=4", "--threads=4", "--requests=16", try bed.credentials.uri(server, .alice), copy],
                    environment: bed.credentials.environment(version))
                #expect(Difference.describe(try File.contents(copy), bed.contents) == nil)
                try await bed.expectLog(server, ["TLS", " with "], count: 4)
                let highest = try server.residentMemory(highest: true)
                #expect(highest < 96 << 20, "\(highest) bytes")
            }
        }
    }

    @Test func `what is written over TLS at odd places is read again, and is in the file`() async throws {
        try await TLSTestBed.run(size: 12 << 20) { bed in
            let other = DiskContents(mark: 0x72).bytes(at: 0, count: 5 << 20, .noise)
            let source = try bed.directory.write("other.raw", other)
            try await bed.serve(bed.keys + ["--writable"]) { server in
                for (version, offset) in [(TLSCredentials.Version.old, 12_345), (.new, (6 << 20) + 777)] {
                    try await Tool.succeed(
                        "/usr/bin/nbdsh",
                        [
                            "-c",
                            """
                            h.set_uri_allow_local_file(True)
                            h.connect_uri("\(try bed.credentials.uri(server, .alice))")
                            data = open("\(source)", "rb").read()
                            assert not h.is_read_only() and h.get_tls_negotiated()
                            place = 0
                            for count in [1, 511, 16383, 16384, 16385, 1000003, len(data)]:
                                h.pwrite(data[place:place + count], \(offset) + place)
                                place = min(place + count, len(data))
                            h.flush()
                            assert h.pread(len(data), \(offset)) == data
                            """,
                        ], environment: bed.credentials.environment(version).merging(["PATH": "/usr/bin:/bin"]) { $1 })
                    var expected = try File.contents(bed.image)
                    expected.replaceSubrange(offset..<(offset + other.count), with: other)
                    #expect(Difference.describe(try File.contents(bed.image), expected) == nil)
                }
                // Nothing else has been changed.
                var expected = bed.contents
                for offset in [12_345, (6 << 20) + 777] {
                    expected.replaceSubrange(offset..<(offset + other.count), with: other)
                }
                #expect(Difference.describe(try File.contents(bed.image), expected) == nil)
                try server.expectContents(expected, of: bed)
            }
        }
    }

    @Test func `--once ends after a copy over TLS, not after clients that fail or only look`() async throws {
        try await TLSTestBed.run { bed in
            let copy = bed.directory.file("copy.raw")
            let outcome = try await bed.serve(bed.keys + ["--once"], ending: .byItself) { server in
                for client in [TLSCredentials.Client.key("alice", in: "wrong"), .key("mallory", in: "wrong")] {
                    _ = try await bed.expectRefusal(try bed.credentials.uri(server, client))
                }
                let uri = try bed.credentials.uri(server, .alice)
                try await Tool.succeed("nbdinfo", [uri])
                try await Tool.succeed("nbdcopy", ["--connections=4", "--threads=4", uri, copy])
            }
            #expect(outcome.code == 0, "\(outcome.errors)")
            #expect(Difference.describe(try File.contents(copy), bed.contents) == nil)
        }
    }

    @Test func `the printed address of a key for one run is all that nbdcopy needs; another run's key is not let in`()
        async throws
    {
        try await TLSTestBed.run { bed in
            for place in [["--port", "0"], ["--socket", bed.directory.file("s")]] {
                try await bed.serve(["--tls-psk=auto"] + place) { server in
                    let copy = bed.directory.file("copy.raw")
                    try await Tool.succeed("nbdcopy", [server.uri, copy])
                    #expect(Difference.describe(try File.contents(copy), bed.contents) == nil)
                    let wrong = bed.credentials.file("right/keys.psk")
                    let file = try #require(server.uri.firstMatch(of: /tls-psk-file=(.*)/)?.1)
                    let uri = server.uri.replacing(file, with: wrong)
                    // In that file it is somebody else's.
                    try await Tool.shell("sed s/alice/nbdecrypt/ -i \(wrong)")
                    _ = try await bed.expectRefusal(uri)
                    try await bed.expectLog(server, ["TLS failed: ", "has another key for the user \"nbdecrypt\""])
                    try server.expectContents(bed.contents)
                }
            }
        }
    }
}

extension ServerUnderTest {
    /// Reads the whole disk with the key of alice and compares it.
    fileprivate func expectContents(_ disk: Data, of bed: TLSTestBed) throws {
        let client = try LibNBDClient(try bed.credentials.uri(self, .alice))
        #expect(Difference.describe(try client.read(disk.count, at: 0), disk) == nil)
    }
}
