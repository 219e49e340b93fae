// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Disks that sfdisk and fdisk have partitioned, and LUKS containers that cryptsetup has put into partitions.
@Suite(.fewAtATime)
struct PartitionTableMatrixTests {
    /// A partition as sfdisk lists it, in bytes.
    private struct Listed {
        let number: Int
        let range: Range<Int>
        let type: String
    }

    private static let size = 64 << 20

    private static let dos = """
        label: dos
        ,10M,83
        ,5M,82,*
        ,30M,5
        ,5M,7
        ,4M,83
        ,6M,8e
        ,7M,fd

        """
    private static let gpt = """
        label: gpt
        1:size=5M,type=U,name="EFI system partition"
        2:size=10M,type=CA7D7CCB-63ED-4C53-861C-1742536059CC,name="böse ☃"
        100:size=7M,type=L

        """
    /// Commands for fdisk with sectors of 4096 bytes, and the sectors that it makes of them.
    private static let large = [
        ("g\nn\n1\n\n+2000\nn\n7\n\n+3000\nw\n", [1: 256...2256, 7: 2304...5304]),
        (
            "o\nn\np\n1\n256\n+1000\nn\ne\n2\n\n\nn\n\n+1000\nn\n\n+2000\nw\n",
            [1: 256...1256, 5: 1536...2536, 6: 2816...4816]
        ),
    ]

    @Test(arguments: [dos, gpt], ["raw", "qcow2"])
    func `every partition has the number and the bytes that sfdisk says`(_ script: String, format: String) async throws
    {
        try await withDisk(script) { directory, disk in
            let listed = try await list(disk)
            let contents = try File.contents(disk)
            let image = try await self.image(of: disk, format, directory)
            for partition in listed where partition.type != "5" {
                try await serve(image, ["--partition", "\(partition.number)"], directory) { server in
                    try server.expectContents(contents.subdata(in: partition.range))
                }
            }
            try await serve(image, ["--exports", "all"], directory) { server in
                try server.expectContents(contents)
                for partition in listed where partition.type != "5" {
                    try expect(contents.subdata(in: partition.range), at: "partition/\(partition.number)", server)
                }
            }
        }
    }

    @Test(arguments: large)
    func `sectors of 4096 bytes are found out`(_ commands: String, _ sectors: [Int: ClosedRange<Int>]) async throws {
        try await withDisk(nil) { directory, disk in
            try await Tool.succeed("fdisk", ["-b", "4096", disk], input: Array(commands.utf8))
            let contents = try File.contents(disk)
            for (number, range) in sectors {
                try await serve([disk, "-f", "raw"], ["--partition", "\(number)"], directory) { server in
                    try server.expectContents(
                        contents.subdata(in: (range.lowerBound * 4096)..<((range.upperBound + 1) * 4096)))
                }
            }
        }
    }

    @Test(
        arguments: [512, 1024, 2048, 4096],
        ["g", "o"])
    func `a container is found and decrypted in tables in sectors of any size`(_ size: Int, _ label: String)
        async throws
    {
        try await withDisk(nil) { directory, disk in
            let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
            let plain = try directory.write("plain", DiskContents(mark: 3).bytes(at: 0, count: 3 << 20, .plain))
            let luks = directory.file("part.luks")
            try await LUKSMaker.qemu(plain, luks, passphrase: secret[1])
            let container = try File.contents(luks)
            let sectors = (container.count + size - 1) / size
            let commands = "\(label)\nn\n\(label == "o" ? "p\n" : "")1\n\((1 << 20) / size)\n+\(sectors - 1)\nw\n"
            try await Tool.succeed("fdisk", ["-b", "\(size)", disk], input: Array(commands.utf8))
            var contents = try File.contents(disk)
            contents.replaceSubrange((1 << 20)..<((1 << 20) + container.count), with: container)
            try directory.write("disk.raw", contents)
            for image in [try await image(of: disk, "qcow2", directory), [disk, "-f", "raw"]] {
                for option in [[], ["--sector-size", "\(size)"]] {
                    try await serve(image, secret + ["--partition", "1"] + option, directory) { server in
                        try server.expectContents(try File.contents(plain))
                    }
                }
            }
        }
    }

    @Test(arguments: [512, 2048])
    func `an MBR of which nothing tells the sector size is refused until somebody says it`(_ size: Int) async throws {
        try await withDisk(nil) { directory, disk in
            let commands = "o\nn\np\n1\n\((4 << 20) / size)\n+\((1 << 20) / size - 1)\nw\n"
            try await Tool.succeed("fdisk", ["-b", "\(size)", disk], input: Array(commands.utf8))
            let contents = try File.contents(disk)
            let image = [disk, "-f", "raw"]
            for option in ["--partition", "--exports"] {
                try await Program.expectRefusal(
                    ["serve", "--socket", directory.file("s"), option, option == "--exports" ? "partition/1" : "1"]
                        + image,
                    status: 65, saying: "does not say its sector size", "--sector-size")
            }
            try await serve(image, ["--partition", "1", "--sector-size", "\(size)"], directory) { server in
                try server.expectContents(Data(contents[(4 << 20)..<(5 << 20)]))
            }
            let config = try directory.write(
                "c",
                text: #"{"images":[{"path":"disk.raw","format":"raw","partition":1,"sector-size":\#(size)}]}"#)
            try await serve(["--config", config], [], directory) { server in
                try expect(Data(contents[(4 << 20)..<(5 << 20)]), at: "disk.raw", server)
            }
            // The disk itself is served all the same.
            let outcome = try await serve(image, ["--exports", "all"], directory) { try $0.expectContents(contents) }
            #expect(outcome.errors.contains("warning: ") && outcome.errors.contains("--sector-size"))
        }
    }

    @Test func `without the first copy of a GPT, the backup is used, with a warning`() async throws {
        try await withDisk(Self.gpt) { directory, disk in
            let listed = try #require(try await list(disk).last)
            var contents = try File.contents(disk)
            contents.replaceSubrange(512..<1024, with: Data(count: 512))
            try directory.write("disk.raw", contents)
            let outcome = try await serve([disk, "-f", "raw"], ["--partition", "100"], directory) { server in
                try server.expectContents(contents.subdata(in: listed.range))
            }
            #expect(outcome.errors.contains("warning: ") && outcome.errors.contains("backup"), "\(outcome.errors)")
        }
    }

    @Test(
        arguments: ["luks1", "luks2"],
        [dos, gpt])
    func `a LUKS container in a partition is decrypted with the secrets of the command`(type: String, script: String)
        async throws
    {
        try await withDisk(script) { directory, disk in
            let partition = try #require(try await list(disk).first { $0.range.count == 10 << 20 })
            var maker = LUKSMaker(directory: directory)
            maker.size = partition.range.count
            let small = type == "luks2" ? ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "512k"] : []
            let path = try await maker.format(type: type, options: LUKSMaker.cheap + small)
            var contents = try File.contents(disk)
            contents.replaceSubrange(partition.range, with: try File.contents(path))
            try directory.write("disk.raw", contents)
            let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
            let plain = directory.file("plain")
            try await serve([path], secret, directory) { server in
                try await Tool.succeed("nbdcopy", [server.uri, plain])
            }
            let expected = try File.contents(plain)
            let image = try await self.image(of: disk, "qcow2", directory)
            try await serve(image, secret + ["--partition", "\(partition.number)"], directory) { server in
                try server.expectContents(expected)
            }
            try await serve(image, secret + ["--exports", "all"], directory) { server in
                try server.expectContents(contents)
                try expect(expected, at: "partition/\(partition.number)", server)
            }
        }
    }

    @Test func `a partition that is not there is refused by its number`() async throws {
        let extended = 3
        for (script, number) in [(Self.dos, extended), (Self.dos, 8), (Self.gpt, 3), (nil, 1)] {
            try await withDisk(script) { directory, disk in
                let outcome = try await Program.run(
                    ["serve", disk, "-f", "raw", "--partition", "\(number)", "--socket", directory.file("s")])
                #expect(outcome.code > 0 && outcome.errors.contains("partition"), "\(outcome.errors)")
                #expect(outcome.errors.split(separator: "\n").last?.hasPrefix("nbdecrypt: ") == true)
            }
        }
    }

    /// A disk of 64 MiB whose sectors are all different, with the table of a script for sfdisk.
    private func withDisk(
        _ script: String?, _ body: (TemporaryDirectory, _ disk: String) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        var contents = DiskContents(mark: 0x50).bytes(at: 0, count: Self.size, .plain)
        contents.replaceSubrange(0..<(1 << 20), with: Data(count: 1 << 20))
        let disk = try directory.write("disk.raw", contents)
        if let script { try await Tool.succeed("sfdisk", ["-q", "--wipe", "never", disk], input: Array(script.utf8)) }
        try await body(directory, disk)
    }

    private func list(_ disk: String) async throws -> [Listed] {
        struct Report: Decodable {
            struct Table: Decodable { let partitions: [Entry] }
            struct Entry: Decodable {
                let node: String
                let start: Int
                let size: Int
                let type: String
            }
            let partitiontable: Table
        }
        let text = try await Tool.succeed("sfdisk", ["--json", disk])
        return try JSONDecoder().decode(Report.self, from: Data(text.utf8)).partitiontable.partitions.map { entry in
            Listed(
                number: try #require(Int(entry.node.dropFirst(disk.count).drop { !$0.isNumber })),
                range: (entry.start * 512)..<((entry.start + entry.size) * 512), type: entry.type)
        }
    }

    private func image(of disk: String, _ format: String, _ directory: TemporaryDirectory) async throws -> [String] {
        guard format == "qcow2" else { return [disk, "-f", "raw"] }
        let image = directory.file("disk.qcow2")
        try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", disk, image])
        return [image]
    }

    @discardableResult
    private func serve(
        _ image: [String], _ options: [String], _ directory: TemporaryDirectory,
        _ body: (ServerUnderTest) async throws -> Void
    ) async throws -> Tool.Outcome {
        try await ServerUnderTest.run(
            ["serve"] + image + options + ["--socket", directory.file("s")], in: directory, body)
    }

    /// Reads a whole export.
    private func expect(_ contents: Data, at export: String, _ server: ServerUnderTest) throws {
        let socket = try #require(server.socketPath)
        let client = try LibNBDClient("nbd+unix:///\(export)?socket=\(socket)")
        try #require(client.size == contents.count)
        #expect(Difference.describe(try client.read(contents.count, at: 0), contents) == nil)
    }
}
