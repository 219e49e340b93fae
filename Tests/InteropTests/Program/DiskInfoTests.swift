// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What `info` says of disks that can be read without a key, and of their parts.
@Suite(.fewAtATime)
struct DiskInfoTests {
    /// ext4, LUKS1, swap, nothing.
    private static let script = "label: gpt\\nsize=8M,name=boot\\nsize=8M\\nsize=8M\\nsize=8M\\n"
    private static let contents = [["ext4"], ["LUKS1, aes-xts-plain64"], ["Linux swap"], []]

    @Test(arguments: ["raw", "unknown", "qcow2", "qcow"])
    func `the partition table is shown with what is in each partition`(_ format: String) async throws {
        try await withDisk { directory, disk, secret in
            var image = [disk] + (format == "raw" ? ["-f", "raw"] : [])
            if format.hasPrefix("qcow") {
                image = [directory.file("image")]
                try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", format, disk, image[0]])
            }
            let report = try await self.report(image)
            #expect(report.format == format && report.virtualSize == 64 << 20)
            #expect(report.encryption.method == "none" && report.encryption.description.contains("partition 2"))
            #expect((report.refusal != nil) == (format == "unknown"))
            let found = try #require(report.disk)
            #expect(found.table == "GPT" && found.sectorSize == 512 && found.partitions.map(\.number) == [1, 2, 3, 4])
            #expect(found.partitions.map(\.contents) == Self.contents)
            #expect(found.partitions.map(\.name) == ["boot", "", "", ""])
            let listed = try await Tool.succeed("partx", ["-g", "-o", "NR,START,SECTORS", disk])
            #expect(
                listed.split(whereSeparator: \.isWhitespace).compactMap { UInt64($0) }
                    == found.partitions.flatMap { [UInt64($0.number), $0.offset / 512, $0.size / 512] })
            let text = try await Tool.succeed(try Program.path, ["info"] + image)
            for line in [
                "GPT, 4 partitions, sectors of 512 bytes", "ext4; 8388608 bytes from byte 1048576", "nothing known",
            ] {
                #expect(text.contains(line), "\(text)")
            }
            let part = try await self.report(image + ["--partition", "1"])
            #expect(part.disk?.contents == ["ext4"] && part.virtualSize == 8 << 20)
            #expect(part.part?.contains("partition 1, Linux filesystem, \"boot\"") == true)
        }
    }

    @Test
    func
        `a container in a part has its whole report, its passphrases are tried, and the printed command moves the data`()
        async throws
    {
        try await withDisk { directory, disk, secret in
            for part in [["--partition", "2"], ["--offset", "9M", "--size", "8M"]] {
                let image = [disk, "-f", "raw"] + part
                let report = try await self.report(image + ["--check-passphrase"] + secret)
                let luks = try #require(report.luks)
                #expect(luks.version == 1 && luks.keyslots.map(\.number) == [0] && report.disk == nil)
                #expect(report.passphraseCheck?.outcomes.map(\.keyslots) == [[0]])
                try await ServerUnderTest.run(
                    ["serve"] + image + secret + ["--socket", directory.file("s")], in: directory
                ) { server in
                    let client = try LibNBDClient(server.uri)
                    #expect(UInt64(client.size) == report.virtualSize)
                }
                let wrong = try directory.write("wrong", text: "wrong")
                let outcome = try await Program.run(
                    ["info"] + image + ["--check-passphrase", "--passphrase-file", wrong])
                #expect(outcome.code == 77 && outcome.output.contains("opens no keyslot"), "\(outcome.errors)")
                // The passphrases would be asked for. Five seconds are too long for the many attempts that qemu-img may need on
                // a busy machine.
                let command = try #require(luks.verdict.weak.compactMap(\.command).first)
                    .replacing("--iter-time 5000", with: "--iter-time 10 --new-passphrase-file new-passphrase")
                try directory.write("new-passphrase", text: "new")
                try await Tool.shell(
                    """
                    cd \(directory.path); PATH=$(dirname \(try Program.path)):$PATH
                    rm -f new.qcow2
                    \(command) \(secret.joined(separator: " "))
                    """)
                let moved = try await InfoReport.of(directory.file("new.qcow2"))
                #expect(moved.virtualSize == report.virtualSize && moved.luks?.place == "qcow2 header")
            }
        }
    }

    @Test func `what info does not see into is refused, and a container in a partition is named`() async throws {
        try await withDisk { directory, disk, secret in
            try await Program.expectRefusal(
                ["info", disk, "--partition", "9"], status: 64, saying: "no partition 9; it has 1, 2, 3, 4")
            try await Program.expectRefusal(
                ["info", disk, "-f", "raw", "--check-passphrase"] + secret, status: 64,
                saying: "partition 2 holds LUKS: add --partition 2")
            try await Program.expectRefusal(
                ["info", disk, "--partition", "2", "--offset", "4K"], status: 64,
                saying: "partition 2", "is encrypted, and info decrypts nothing")
            try await Program.expectRefusal(
                ["info", directory.file("luks"), "--partition", "1"], status: 64, saying: "info decrypts nothing")
            let noise = try directory.write("noise", DiskContents(mark: 1).bytes(at: 0, count: 1 << 20, .noise))
            try await Program.expectRefusal(["info", noise], status: 65, saying: "of no format that nbdecrypt knows")
            let part = try await report([noise, "-f", "raw", "--offset", "4K"])
            #expect(part.virtualSize == (1 << 20) - 4096 && part.disk?.contents == [])
            // What cannot be told is no reason to say nothing.
            let ambiguous = try directory.write("mbr", Data(count: 64 << 20))
            try await Tool.shell("echo start=2048,size=1M | PATH=$PATH:/usr/sbin sfdisk -q --label dos \(ambiguous)")
            #expect(try await report([ambiguous]).disk?.fault?.contains("--sector-size") == true)
            let said = try await report([ambiguous, "--sector-size", "4096"])
            #expect(said.disk?.sectorSize == 4096 && said.disk?.partitions.map(\.offset) == [8 << 20])
        }
    }

    private func report(_ arguments: [String]) async throws -> InfoReport {
        let text = try await Tool.succeed(try Program.path, ["info", "--json"] + arguments)
        return try JSONDecoder().decode(InfoReport.self, from: Data(text.utf8))
    }

    private func withDisk(
        _ body: (TemporaryDirectory, _ disk: String, _ secret: [String]) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        let plain = try directory.write("plain", DiskContents(mark: 3).bytes(at: 0, count: 3 << 20, .plain))
        try await LUKSMaker.qemu(plain, directory.file("luks"), passphrase: secret[1])
        let disk = directory.file("disk.raw")
        try await Tool.shell(
            """
            cd \(directory.path); PATH=$PATH:/usr/sbin
            truncate -s 64M disk.raw; printf '\(Self.script)' | sfdisk -q disk.raw
            mke2fs -q -t ext4 -E offset=1048576 disk.raw 8M
            dd if=luks of=disk.raw bs=1M seek=9 conv=notrunc status=none
            truncate -s 8M swap; mkswap -q swap; dd if=swap of=disk.raw bs=1M seek=17 conv=notrunc status=none
            """)
        try await body(directory, disk, secret)
    }
}
