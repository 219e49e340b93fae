// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `nbdecrypt audit --map`, beside `qemu-img map` and `qemu-img check`.
@Suite(.fewAtATime)
struct AuditMapTests {
    /// A map in the picture.
    private struct Map {
        let name: String
        /// In bytes.
        let size: UInt64
        /// Bytes of each kind, as the legend has them.
        var legend: [String: UInt64] = [:]
        /// How many cells there are, or runs of them.
        var cellCount = 0
        /// Bytes of each kind, as the tool tips have them.
        var tips: [Substring: UInt64] = [:]
        var faultCount: UInt64 = 0

        subscript(_ kinds: String...) -> UInt64 { kinds.reduce(0) { $0 + (legend[$1] ?? 0) } }
    }

    /// Reads a picture: Python's parser takes it for XML, and it names nothing outside.
    private func maps(_ path: String) async throws -> [Map] {
        try await Tool.succeed(
            "python3", ["-c", "import sys, xml.dom.minidom as m; m.parse(sys.argv[1])", path])
        let text = try File.text(path)
        #expect(!text.contains("href") && text.components(separatedBy: "http").count == 2)
        var maps: [Map] = []
        for line in text.split(separator: "\n") {
            if let found = line.firstMatch(of: /class="name">(.*)<\/text>/) {
                maps.append(Map(name: String(found.1), size: 0))
            } else if let found = line.firstMatch(of: />\w+, (?:not )?encrypted; (\d+) bytes/), let last = maps.last {
                maps[maps.count - 1] = Map(name: last.name, size: try #require(UInt64(found.1)))
            } else if let found = line.firstMatch(of: /<text[^>]*>([^<]+): (\d+) bytes/) {
                maps[maps.count - 1].legend[String(found.1)] = UInt64(found.2)
            } else if let found = line.firstMatch(of: /<title>bytes \d+ to \d+: ([^;<]*)(?:; (\d+) faults?)?</) {
                maps[maps.count - 1].cellCount += 1
                maps[maps.count - 1].faultCount += found.2.flatMap { UInt64($0) } ?? 0
                for part in found.1.components(separatedBy: ", ") {
                    let words = part.split(separator: " ")
                    maps[maps.count - 1].tips[words[0], default: 0] += try #require(UInt64(words[1]))
                }
            }
        }
        for map in maps {
            #expect(map.legend.values.reduce(0, +) == map.size, "\(map)")
            #expect(map.tips.values.sorted() == map.legend.values.filter { $0 > 0 }.sorted(), "\(map)")
        }
        return maps
    }

    private func draw(
        _ arguments: [String], in directory: TemporaryDirectory, status: Int32 = 0,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> [Map] {
        let picture = directory.file("map.svg")
        try? FileManager.default.removeItem(atPath: picture)
        let outcome = try await Program.run(["audit"] + arguments + ["--map", picture])
        #expect(outcome.code == status, "\(outcome.errors)", sourceLocation: sourceLocation)
        #expect(!File.exists("\(picture).partial"))
        return try await maps(picture)
    }

    private func withDirectory(_ body: (TemporaryDirectory) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await body(directory)
    }

    private struct MappedExtent: Decodable {
        let start: UInt64
        let length: UInt64
        let present: Bool
        let zero: Bool
        let data: Bool
    }

    // MARK: qcow2

    @Test(arguments: [
        ImageRecipe(clusterBits: 12, isEncrypted: true, size: 5 << 20), ImageRecipe(clusterBits: 16, size: 5 << 20),
        ImageRecipe(clusterBits: 14, size: 5 << 20, extra: ["extended_l2=on"]),
    ])
    func `every byte has its kind, as qemu-img map and qemu-img check count them`(_ recipe: ImageRecipe) async throws {
        try await withDirectory { directory in
            let image = try await ImageMaker(directory: directory).mixed(recipe)
            let file = image.objectArguments + ["--image-opts", image.options]
            let status: Int32 = recipe.isEncrypted ? 1 : 0
            let data = recipe.isEncrypted ? "encrypted" : "not encrypted"
            let packed = recipe.isEncrypted ? "compressed, in the clear" : "compressed, not encrypted"
            let maps = try await draw([image.path], in: directory, status: status)
            try #require(maps.map(\.name) == [image.path, "the disk in \(image.path)"])
            #expect(try maps[0].size == UInt64(File.contents(image.path).count))
            // The file of the image has clusters that are not written to yet, which read as zeros.
            let extents = try JSONDecoder().decode(
                [MappedExtent].self,
                from: Data(try await Tool.succeed("qemu-img", ["map", "--output", "json"] + file).utf8))
            func sum(_ isIncluded: (MappedExtent) -> Bool) -> UInt64 {
                extents.filter(isIncluded).reduce(0) { $0 + $1.length }
            }
            let disk = maps[1]
            #expect(disk[data, packed] == sum { $0.data && !$0.zero })
            #expect(disk["marked as zeros"] == sum { $0.zero && $0.present })
            #expect(disk["not allocated here"] == sum { !$0.present })
            // The last cluster may be shorter.
            let compressed = UInt64(try #require(try await image.check().compressed)) * UInt64(recipe.clusterSize)
            #expect(disk[packed] <= compressed && disk[packed] + UInt64(recipe.clusterSize) > compressed)
            #expect(maps[0]["shared with snapshots"] == 0)

            // A snapshot has all of it, and the disk nothing of its own, until it is written to.
            try await Tool.succeed("qemu-img", ["snapshot", "-q", "-c", "one"] + file)
            let before = try await draw([image.path], in: directory, status: status)
            #expect(before[1][data] == 0 && before[1]["shared with snapshots"] == disk[data])
            #expect(before[0]["shared with snapshots"] == maps[0][data] && before[0][data] == 0)
            let cluster = recipe.clusterSize
            try await image.io(["write -P 4 \(11 * cluster) \(cluster)"])
            let after = try await draw([image.path], in: directory, status: status)
            #expect(after[1][data] == UInt64(cluster))
            #expect(after[0][data] == 2 * UInt64(cluster), "the new one, and that of the snapshot")
        }
    }

    @Test func `what is lost or wrong is drawn where it is`() async throws {
        try await withDirectory { directory in
            let image = try await ImageMaker(directory: directory).image(
                of: DiskContents(mark: 0x2A).bytes(at: 0, count: 4 << 20, .noise), ImageRecipe(size: 4 << 20))
            let editor = Qcow2Editor(path: image.path)
            for cluster in [5, 7] { try editor.set(UInt64(0), at: try editor.l2Place(of: cluster << 16)) }
            let lost = try await draw([image.path], in: directory)
            #expect(lost[0]["lost: marked as used, used by nothing"] == 2 << 16)
            let check = try await Tool.run("qemu-img", ["check", "--output", "json", image.path])
            #expect(check.output.contains("\"leaks\": 2,"), "\(check.output)")
            #expect(lost[1]["not allocated here"] == 2 << 16)
            // An entry that leads out of the file, and two that lead to one cluster.
            try editor.set(1 << 40 as UInt64, at: try editor.l2Place(of: 9 << 16))
            try editor.set(try editor.l2Entry(of: 10 << 16), at: try editor.l2Place(of: 11 << 16))
            let damaged = try await draw([image.path], in: directory, status: 65)
            #expect(damaged[1]["damaged"] == 1 << 16)
            #expect(damaged[0]["damaged"] == 1 << 16 && damaged[0].faultCount > 0)
            // The table of all of the disk.
            try editor.set(1 << 40 as UInt64, at: try editor.l1Place(of: 0))
            let all = try await draw([image.path], in: directory, status: 65)
            #expect(all[1]["damaged"] == all[1].size)
        }
    }

    @Test func `a picture does not grow with the image, its tables or its layers`() async throws {
        try await withDirectory { directory in
            let top = directory.file("top")
            // Clusters here and there, so that hardly two cells are alike.
            let writes = (0..<200).map { "-c 'write -P 1 \($0 * 5_000_000_000) 1M'" }.joined(separator: " ")
            try await Tool.shell(
                """
                cd \(directory.path); qemu-img create -q -f qcow2 0 1T; qemu-io \(writes) 0 > /dev/null
                for n in 1 2 3 4 5 6 7 8 9 10 11; do qemu-img create -q -f qcow2 -F qcow2 -b $((n - 1)) $n; done
                qemu-img create -q -f qcow2 -F qcow2 -b 11 top
                """)
            let maps = try await draw([top], in: directory)
            #expect(maps.count == 26)
            #expect(maps.reduce(0) { $0 + $1.cellCount } <= 4096)
            let alone = try await draw([directory.file("0")], in: directory)
            #expect(alone[1].size == 1 << 40 && alone[1].legend["not encrypted"] ?? 0 >= 200 << 20)
            #expect(alone.allSatisfy { $0.cellCount <= 2048 && $0.cellCount > 100 })
            #expect(try File.contents(directory.file("map.svg")).count < 4 << 20)
        }
    }

    // MARK: Other formats

    @Test func `LUKS, raw and qcow version 1 are drawn as far as they are known`() async throws {
        try await withDirectory { directory in
            let container = try await LUKSMaker(directory: directory).format()
            let luks = try await draw([container], in: directory)
            let size = try File.contents(container).count
            #expect(luks.map(\.size) == [UInt64(size)])
            #expect(luks[0]["LUKS keyslots"] > 0 && luks[0]["headers and tables"] > 0)
            // A sparse file, of which GNU stat tells what it stores.
            let raw = directory.file("raw")
            try await Tool.shell(
                "truncate -s 8M \(raw); dd if=/dev/urandom of=\(raw) bs=1M seek=3 count=2 conv=notrunc")
            let plain = try await draw([raw, "-f", "raw"], in: directory)
            #expect(plain.map { $0["not encrypted"] } == [2 << 20] && plain[0]["free"] == 6 << 20)
            let old = directory.file("old")
            try await Tool.shell("qemu-img create -q -f qcow \(old) 8M; qemu-io -f qcow -c 'write -P 1 1M 2M' \(old)")
            let qcow = try await draw([old], in: directory)
            #expect(qcow.map(\.name) == ["the disk in \(old)"] && qcow[0]["not encrypted"] == 2 << 20)
            // In a partition of an image.
            let disk = directory.file("disk.qcow2")
            try await Tool.shell(
                """
                cd \(directory.path); truncate -s 64M parts; echo '2048,,L' | sfdisk -q parts
                dd if=\(container) of=parts seek=2048 conv=notrunc,sparse status=none
                qemu-img convert -O qcow2 parts \(disk)
                """)
            let parts = try await draw([disk], in: directory)
            #expect(parts.map(\.name).last == "partition 1 of \(disk)" && parts.count == 3)
            #expect(parts[2]["LUKS keyslots"] == luks[0]["LUKS keyslots"])
        }
    }

    // MARK: The file

    @Test func `nothing is overwritten, nothing is left behind, and names are text`() async throws {
        try await withDirectory { directory in
            let path = directory.file("a<b>&\"'\u{202E}c")
            try FileManager.default.moveItem(atPath: try await SmallDisk(directory).plain(), toPath: path)
            #expect(
                try await draw([path], in: directory).first?.name
                    == "\(directory.path)/a&lt;b&gt;&amp;&quot;&apos;\u{FFFD}c")
            let before = try File.contents(path)
            for taken in [path, directory.file("map.svg")] {
                try await Program.expectRefusal(
                    ["audit", path, "--map", taken], status: 74, saying: "exists, and nothing is overwritten")
            }
            try await Program.expectRefusal(
                ["audit", path, "--map", directory.file("none/map.svg")], status: 74, saying: "make that directory")
            // An image that cannot be opened leaves nothing.
            let text = try directory.write("text", text: "no image")
            try await Program.expectRefusal(
                ["audit", text, "--map", directory.file("new.svg")], status: 65, saying: "no format")
            #expect(try File.contents(path) == before)
            let names = try FileManager.default.contentsOfDirectory(atPath: directory.path)
            #expect(!names.contains { $0.hasSuffix(".partial") || $0 == "new.svg" })
            #expect(try File.mode(directory.file("map.svg")) == 0o600)
        }
    }
}
