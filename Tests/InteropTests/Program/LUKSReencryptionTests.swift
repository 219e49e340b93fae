// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Containers of which a reencryption was written down by cryptsetup, and whether their data is still what it was.
@Suite(.fewAtATime)
struct LUKSReencryptionTests {
    /// Options of `cryptsetup reencrypt --init-only` that leave the disk as it is, and where the header then is.
    struct Form: Sendable, CustomStringConvertible {
        let description: String
        let options: [String]
        var isDetached = false
    }

    static let forms = [
        Form(description: "another key", options: LUKSMaker.cheap),
        Form(
            description: "another cipher",
            options: LUKSMaker.cheap + ["--cipher", "aes-cbc-plain64", "--key-size", "256"]),
        Form(description: "larger sectors", options: LUKSMaker.cheap + ["--sector-size", "4096"]),
        Form(description: "a shift of the data", options: LUKSMaker.cheap + ["--reduce-device-size", "1M"]),
        Form(description: "no encryption any more", options: ["--decrypt"], isDetached: true),
    ]

    private static let offline = "--force-offline-reencrypt"

    @Test(arguments: forms)
    func `the disk is served byte for byte under the old key, and the command that is printed goes on`(_ form: Form)
        async throws
    {
        try await withContainer(isDetached: form.isDetached) { maker, place, secret, oracle in
            let key = maker.directory.file("p")
            try await maker.cryptsetup(
                ["reencrypt", "--init-only", Self.offline, "--key-file", key] + form.options + headerOption(place)
                    + [place[0]])
            let outcome = try await ServerUnderTest.run(
                ["serve"] + place + secret + ["--socket", maker.directory.file("s")], in: maker.directory
            ) { server in try server.expectContents(oracle) }
            #expect(outcome.errors.contains("a reencryption was initialised and has changed no data yet"))
            #expect(outcome.errors.contains(Self.offline), "\(outcome.errors)")
            let report = try await info(place)
            #expect(report.refusal == nil && report.virtualSize == UInt64(oracle.count))
            let command = try #require(report.luks?.verdict.weak.compactMap(\.command).first)
            #expect(report.luks?.verdict.weak.compactMap(\.command).count == 1)
            #expect(command.hasPrefix("cryptsetup reencrypt --resume-only \(Self.offline) "), "\(command)")
            try await Tool.shell("\(command) --batch-mode --key-file \(key)")
            // Now it is over: the same disk under the new key, or the plaintext.
            guard !form.isDetached else {
                #expect(try File.contents(place[0]) == oracle)
                return
            }
            let end = form.options.contains("--reduce-device-size") ? oracle.dropLast(1 << 20) : oracle
            try await ServerUnderTest.run(
                ["serve"] + place + secret + ["--socket", maker.directory.file("s")], in: maker.directory
            ) { server in try server.expectContents(end) }
        }
    }

    /// What makes of an initialised reencryption another state; and one that never was whole.
    static let otherStates = [
        "metadata['segments']['0']['flags'] = ['in-reencryption']",
        "metadata['segments']['0']['size'] = '1048576'",
        "metadata['segments']['1']['iv_tweak'] = '8'",
        "metadata['segments']['2']['flags'] = ['backup-moved-segment']",
        "metadata['digests']['0']['segments'] = ['1']; metadata['digests']['1']['segments'] = ['0', '2']",
        "del metadata['keyslots']['2']; metadata['digests']['2']['keyslots'] = []",
        "metadata['config']['requirements']['mandatory'] = ['online-reencrypt-v9']",
        "del metadata['config']['requirements']",
    ]

    @Test(arguments: otherStates)
    func `any other state is refused with the command that ends it`(_ change: String) async throws {
        try await withContainer { maker, place, secret, _ in
            try await maker.cryptsetup(
                ["reencrypt", "--init-only", "--key-file", maker.directory.file("p")] + LUKSMaker.cheap + place)
            try await maker.edit(place[0], change)
            try await Program.expectRefusal(
                ["serve"] + place + secret + ["--socket", maker.directory.file("s")], status: 65,
                saying: "in the middle of a reencryption", "cryptsetup reencrypt --resume-only", Self.offline)
            let report = try await info(place)
            #expect(report.refusal?.contains("--resume-only") == true && report.virtualSize == nil)
        }
    }

    @Test func `one damaged copy of the header is reason enough not to trust the other about it`() async throws {
        try await withContainer { maker, place, secret, _ in
            try await maker.cryptsetup(
                ["reencrypt", "--init-only", "--key-file", maker.directory.file("p")] + LUKSMaker.cheap + place)
            try Qcow2Editor(path: place[0]).set([0xFF], at: 4096 + 20)
            try await Program.expectRefusal(
                ["serve"] + place + secret + ["--socket", maker.directory.file("s")], status: 65,
                saying: "in the middle of a reencryption")
        }
    }

    @Test func `an encryption that was initialised is refused, a leak, and ended by the command that is printed`()
        async throws
    {
        try await withContainer { maker, _, secret, _ in
            let plain = try maker.directory.write("plain", DiskContents(mark: 3).bytes(at: 0, count: 2 << 20, .plain))
            let oracle = try File.contents(plain)
            let header = maker.directory.file("new-header")
            let key = maker.directory.file("p")
            try await maker.cryptsetup(
                ["reencrypt", "--encrypt", "--type", "luks2", "--init-only", "--key-file", key] + LUKSMaker.cheap
                    + ["--header", header, plain])
            let place = [plain, "--header", header]
            for allowed in [[], ["--allow-linear-segments"]] {
                try await Program.expectRefusal(
                    ["serve"] + place + secret + allowed + ["--socket", maker.directory.file("s")], status: 65,
                    saying: "in the middle of a reencryption (mode encrypt")
            }
            let audit = try await Program.run(["audit"] + place)
            #expect(audit.code == 1 && audit.output.contains("segment 0 is linear"), "\(audit.output)")
            let command = try #require(try await info(place).luks?.verdict.weak.compactMap(\.command).first)
            try await Tool.shell("\(command) --batch-mode --key-file \(key)")
            try await ServerUnderTest.run(
                ["serve"] + place + secret + ["--socket", maker.directory.file("s")], in: maker.directory
            ) { server in try server.expectContents(oracle) }
        }
    }

    private func headerOption(_ place: [String]) -> [String] { Array(place.dropFirst()) }

    private func info(_ place: [String]) async throws -> InfoReport {
        let text = try await Tool.succeed(try Program.path, ["info", "--json"] + place)
        return try JSONDecoder().decode(InfoReport.self, from: Data(text.utf8))
    }

    /// A container, what names it, its secret, and its disk, as the program reads it before anything happens to it.
    private func withContainer(
        isDetached: Bool = false,
        _ body: (LUKSMaker, _ place: [String], _ secret: [String], _ oracle: Data) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory)
        let key = try directory.write("p", text: "correct horse")
        let secret = ["--passphrase-file", key]
        var path = directory.file("disk.luks")
        var place = [path]
        if isDetached {
            path = try directory.write("data", DiskContents(mark: 5).bytes(at: 0, count: 2 << 20, .noise))
            let header = directory.file("header")
            try await maker.cryptsetup(
                ["luksFormat", "--type", "luks2", "--sector-size", "512"] + LUKSMaker.cheap
                    + ["--header", header, path, key])
            place = [path, "--header", header]
        } else {
            _ = try await maker.format(options: LUKSMaker.cheap + ["--sector-size", "512"])
        }
        let copy = directory.file("oracle")
        try await ServerUnderTest.run(
            ["serve"] + place + secret + ["--socket", directory.file("s")], in: directory
        ) { server in try await Tool.succeed("nbdcopy", [server.uri, copy]) }
        try await body(maker, place, secret, try File.contents(copy))
    }
}
