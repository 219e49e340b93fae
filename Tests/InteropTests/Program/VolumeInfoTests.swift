// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What `info` says of logical volumes of LVM.
@Suite(.fewAtATime)
struct VolumeInfoTests {
    @Test(arguments: ["raw", "unknown", "qcow2", "qcow"])
    func `the volumes of a group are listed with size, contents, and why not or how they are served`(_ format: String)
        async throws
    {
        try await withGroup { directory, path, secret in
            let image = try await converted(path, format, directory)
            let report = try await self.report(image)
            let group = try #require(report.disk?.volumeGroups.first)
            #expect(group.name == "two" && group.places == ["partition 1", "partition 2"])
            #expect(report.disk?.volumeFaults == [] && report.encryption.description.contains("volume two/secret"))
            // As lvs showed them when the disk was made.
            #expect(
                group.volumes.map { "\($0.path) \($0.type) \($0.size >> 10)" } == [
                    "two/linear linear, striped 8192", "two/odd-name_1.x linear 1024", "two/striped striped 4096",
                    "two/fine striped 2048", "two/secret linear 8192", "two/origin linear 1024",
                    "two/frozen snapshot 1280", "two/raid1 raid1 1024", "two/raid0 raid0 1024",
                    "two/mirror mirror 1024", "two/pool thin-pool 4096", "two/thin thin 8192",
                ])
            let served = group.volumes.prefix(6)
            #expect(served.allSatisfy { $0.refusal == nil && $0.command != nil })
            #expect(served.map(\.contents) == [[], [], [], [], ["LUKS2, aes-xts-plain64"], ["ext4"]])
            for volume in group.volumes.dropFirst(6) {
                #expect(volume.refusal?.contains("logical volume \(volume.path) is ") == true && volume.command == nil)
            }
            let text = try await Tool.succeed(try Program.path, ["info"] + image)
            for line in [
                "two, 12 logical volumes, on partition 1, partition 2",
                "two/secret: LUKS2, aes-xts-plain64; 8388608 bytes, linear", "two/origin: ext4; 1048576 bytes, linear",
                "two/thin: not served; 8388608 bytes, thin: logical volume two/thin is of type thin, which",
            ] {
                #expect(text.contains(line), "\(text)")
            }
            // As a person types it: the first, which lies in four pieces.
            let printed = try #require(text.firstMatch(of: #/(?m)to serve one: +(.*)$/#)).1
            #expect(String(printed) == served.first?.command)
            let program = (try Program.path as NSString).deletingLastPathComponent
            for volume in [served[0], served[5]] {
                try await Tool.shell(
                    "cd \(directory.path); PATH=\(program):$PATH; \(volume.command ?? "false") --run 'nbdcopy \"$uri\" copy'"
                )
                #expect(try File.contents(directory.file("copy")).count == Int(volume.size))
            }
            let expected = try File.contents(directory.file("origin"))
            #expect(try File.contents(directory.file("copy")) == expected)
        }
    }

    @Test func `one is shown by its name, with the container in it and what opens that`() async throws {
        try await withGroup { directory, path, secret in
            for image in [[path, "-f", "raw"], [path], [path, "-f", "raw", "--partition", "1"]] {
                let one = image + ["--logical-volume", "two/secret"]
                let report = try await self.report(one + ["--check-passphrase"] + secret)
                #expect(report.luks?.place == "logical volume" && report.disk == nil && report.decrypted != nil)
                #expect(report.passphraseCheck?.outcomes.map(\.keyslots) == [[0]])
                #expect(report.part == "linear logical volume two/secret")
                try await ServerUnderTest.run(
                    ["serve", "--socket", directory.file("s"), "-f", "raw"]
                        + image.filter { !["-f", "raw"].contains($0) }
                        + ["--logical-volume", "two/secret"] + secret, in: directory
                ) { server in
                    let client = try LibNBDClient(server.uri)
                    #expect(UInt64(client.size) == report.virtualSize)
                }
                let wrong = try directory.write("wrong", text: "wrong")
                let outcome = try await Program.run(
                    ["info"] + one + ["--check-passphrase", "--passphrase-file", wrong])
                #expect(outcome.code == 77 && outcome.output.contains("opens no keyslot"), "\(outcome.errors)")
            }
            let origin = try await self.report([path, "-f", "raw", "--logical-volume", "two/origin"])
            #expect(origin.disk?.contents == ["ext4"] && origin.virtualSize == 1 << 20 && origin.luks == nil)
            for (volume, status, says) in [
                ("two/thin", 65, "two/thin is of type thin"), ("two/none", 64, "it has two/linear, two/odd-name_1.x"),
            ] as [(String, Int32, String)] {
                try await Program.expectRefusal(
                    ["info", path, "-f", "raw", "--logical-volume", volume], status: status, saying: says)
            }
            let malformed = try await Program.run(["info", path, "-f", "raw", "--logical-volume", "two"])
            #expect(malformed.code == 64 && malformed.errors.contains("takes the names of a volume group and a volume"))
            try await Program.expectRefusal(
                ["info", path, "-f", "raw", "--check-passphrase"] + secret, status: 64,
                saying: "logical volume two/secret holds LUKS: add --logical-volume two/secret")
            try await Program.expectRefusal(
                ["info", path, "-f", "raw", "--logical-volume", "two/origin", "--check-passphrase"] + secret,
                status: 64,
                saying: "is not encrypted")
        }
    }

    @Test(arguments: [
        "luks", "partition", "qcow2",
    ])
    func `a group in a container is listed when the secret opens it, and its volumes are shown`(_ place: String)
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let whole = try await LVMImage(directory: directory).whole()
        let contents = DiskContents(mark: 5).bytes(at: 0, count: 5 << 20, .noise)
        try LVMImage.write(contents, to: whole, at: 36 << 10)
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        let container = directory.file("whole.luks")
        try await LUKSMaker.qemu(whole, container, passphrase: secret[1])
        var (image, part): ([String], [String]) = ([container], [])
        if place != "luks" {
            let disk = directory.file("disk.raw")
            try await Tool.shell(
                """
                PATH=$PATH:/usr/sbin; truncate -s 64M \(disk)
                printf 'label: dos\nstart=1MiB,size=2MiB,type=83\nstart=4MiB,size=40MiB,type=83\n' | sfdisk -q \(disk)
                """)
            try LVMImage.write(try File.contents(container), to: disk, at: 4 << 20)
            (image, part) = ([disk, "-f", "raw"], ["--partition", "2"])
            if place == "qcow2" {
                image = [directory.file("disk.qcow2")]
                try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", disk, image[0]])
            }
        }
        let report = try await self.report(image + part + ["--check-passphrase"] + secret)
        let group = try #require(report.decrypted?.volumeGroups.first)
        #expect(group.volumes.map(\.path) == ["whole/data", "whole/more"] && group.places == ["the disk"])
        let program = (try Program.path as NSString).deletingLastPathComponent
        let command = try #require(group.volumes.first?.command)
        try await Tool.shell(
            "PATH=\(program):$PATH; \(command) \(secret.joined(separator: " ")) --run 'nbdcopy \"$uri\" \(directory.file("copy"))'"
        )
        #expect(try File.contents(directory.file("copy")) == contents)
        // With the part, and without: the containers of the disk are opened then.
        for part in [part, []] {
            let one = image + part + ["--logical-volume", "whole/more"]
            let report = try await self.report(one + secret)
            #expect(report.virtualSize == 1028 << 10 && report.luks == nil && report.disk != nil)
            #expect(report.encryption.description == "none of the volume itself, which is in a container")
            #expect(try await Program.run(["info"] + one + ["--check-passphrase"] + secret).code == 0)
            let none = try await Program.run(["info"] + one)
            #expect(none.code == 77 && none.errors.contains("no secret is given"), "\(none.errors)")
            let wrong = try directory.write("wrong", text: "wrong")
            let outcome = try await Program.run(["info"] + one + ["--passphrase-file", wrong])
            #expect(outcome.code == 77, "\(outcome.errors)")
        }
        let unasked = try await Program.run(["info"] + image + secret)
        #expect(unasked.code == 64 && unasked.errors.contains("info needs no passphrase"), "\(unasked.errors)")
    }

    @Test func `every other kind of volume is named in info, serve and audit`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = try await LVMImage(directory: directory).kinds()
        let report = try await self.report([path])
        let group = try #require(report.disk?.volumeGroups.first)
        #expect(group.volumes.first?.path == "kinds/plain" && group.volumes.first?.refusal == nil)
        let audit = try await Program.run(["audit", path, "-f", "raw"])
        #expect(audit.code == 65)
        for (volume, type) in [
            ("cached", "cache"), ("written", "writecache"), ("checked", "raid1"), ("deduped", "vdo"),
            ("vpool", "vdo-pool"),
        ] {
            let sentence = "logical volume kinds/\(volume) is of type \(type), which nbdecrypt does not read"
            #expect(group.volumes.contains { $0.type == type && $0.refusal?.contains(sentence) == true })
            #expect(audit.output.contains(sentence))
            for command in [["info"], ["serve", "--socket", directory.file("s")]] {
                try await Program.expectRefusal(
                    command + [path, "-f", "raw", "--logical-volume", "kinds/\(volume)"], status: 65, saying: sentence)
            }
        }
        // What they are made of is no volume of its own.
        for part in ["cached_corig", "written_wcorig", "checked_rimage_0_iorig", "vpool_vdata", "fast_cvol"] {
            try await Program.expectRefusal(
                ["serve", "--socket", directory.file("s"), path, "-f", "raw", "--logical-volume", "kinds/\(part)"],
                status: 64, saying: "has no logical volume kinds/\(part)")
        }
    }

    private func report(_ arguments: [String]) async throws -> InfoReport {
        let text = try await Tool.succeed(try Program.path, ["info", "--json"] + arguments)
        return try JSONDecoder().decode(InfoReport.self, from: Data(text.utf8))
    }

    /// "raw" is said, "unknown" is not.
    private func converted(_ path: String, _ format: String, _ directory: TemporaryDirectory) async throws -> [String] {
        guard format.hasPrefix("qcow") else { return [path] + (format == "raw" ? ["-f", "raw"] : []) }
        let image = directory.file("image")
        try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", format, path, image])
        return [image]
    }

    /// The volume group "two", with a LUKS container in its volume "secret" and a file system in "origin".
    private func withGroup(
        _ body: (TemporaryDirectory, _ path: String, _ secret: [String]) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = try await LVMImage(directory: directory).two()
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        let luks = try await LUKSMaker(directory: directory, size: 8 << 20).format(
            options: LUKSMaker.cheap + ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "256k"])
        try LVMImage.write(try File.contents(luks), to: path, at: LVMImage.secret)
        let origin = directory.file("origin")
        try await Tool.shell("truncate -s 1M \(origin); PATH=$PATH:/usr/sbin mke2fs -q -t ext4 \(origin)")
        try LVMImage.write(try File.contents(origin), to: path, at: LVMImage.origin)
        try await body(directory, path, secret)
    }
}
