// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `nbdecrypt audit`, beside `qemu-img check`.
@Suite(.fewAtATime)
struct AuditTests {
    /// What `nbdecrypt audit --json` prints.
    private struct Report: Decodable {
        struct Places: Decodable {
            let count: Int
            let offsets: [UInt64]
        }

        struct Fault: Decodable {
            let kind: String
            let description: String
        }

        struct Layer: Decodable {
            let format: String
            let isEncrypted: Bool
            let isComplete: Bool
            let faultCount: Int
            let faultCounts: [String: Int]
            let faults: [Fault]
            let lostClusters: Places
            let compressedClusters: Places
        }

        struct Leak: Decodable {
            let kind: String
            let layer: Int
            let clusterCount: Int?
            let description: String
        }

        let verdict: String
        let layers: [Layer]
        let leaks: [Leak]
    }

    /// Part of what `qemu-img check --output json` prints.
    private struct Check: Decodable {
        let corruptions: Int?
        let leaks: Int?
    }

    private func audit(
        _ path: String, _ arguments: String..., status: Int32, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> Report {
        let outcome = try await Program.run(["audit", path, "--json"] + arguments)
        #expect(outcome.code == status, "\(outcome.errors)\(outcome.output)", sourceLocation: sourceLocation)
        return try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
    }

    private func check(_ image: TestImage) async throws -> Check {
        let outcome = try await Tool.run(
            "qemu-img", ["check", "--output", "json"] + image.objectArguments + ["--image-opts", image.options])
        return try JSONDecoder().decode(Check.self, from: Data(outcome.output.utf8))
    }

    private func withDirectory(_ body: (TemporaryDirectory) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await body(directory)
    }

    // MARK: Sound images

    static let sound = [
        ImageRecipe(clusterBits: 9, compat: "0.10", size: 2 << 20), ImageRecipe(clusterBits: 9, size: 2 << 20),
        ImageRecipe(clusterBits: 12, isEncrypted: true, size: 5 << 20), ImageRecipe(clusterBits: 21, size: 64 << 20),
        ImageRecipe(size: 5 << 20, extra: ["compression_type=zstd", "lazy_refcounts=on"]),
        ImageRecipe(clusterBits: 14, size: 5 << 20, extra: ["extended_l2=on"]),
    ]

    @Test(arguments: sound)
    func `a sound image is clean, with snapshots and bitmaps, too`(_ recipe: ImageRecipe) async throws {
        try await withDirectory { directory in
            let image = try await ImageMaker(directory: directory).mixed(recipe)
            let file = image.objectArguments + ["--image-opts", image.options]
            for name in ["one", "two"] {
                try await Tool.succeed("qemu-img", ["snapshot", "-c", name] + file)
                try await image.io(["write -P 3 65536 100000", "write -z 300000 70000", "discard 500000 200000"])
            }
            if recipe.compat == "1.1" { try await Tool.succeed("qemu-img", ["bitmap", "--add"] + file + ["b"]) }
            try await image.io(["write -P 4 131072 100000"])
            let expected = try await check(image)
            #expect(expected.corruptions == nil && expected.leaks == nil)
            let report = try await audit(image.path, status: recipe.isEncrypted ? 1 : 0)
            #expect(report.layers.count == 1 && report.layers.allSatisfy { $0.isComplete && $0.faultCount == 0 })
            #expect(report.layers.first?.lostClusters.count == 0)
            #expect(report.verdict == (recipe.isEncrypted ? "leaks" : "clean"))
        }
    }

    @Test(arguments: [1, 2, 4, 8, 16, 32, 64])
    func `reference counts of every width are understood`(_ bits: Int) async throws {
        try await withDirectory { directory in
            let recipe = ImageRecipe(clusterBits: 10, size: 3 << 20, extra: ["refcount_bits=\(bits)"])
            let image = try await ImageMaker(directory: directory).image(of: Data(repeating: 7, count: 3 << 20), recipe)
            if bits > 1 { try await Tool.succeed("qemu-img", ["snapshot", "-c", "one", image.path]) }
            _ = try await audit(image.path, status: 0)
        }
    }

    @Test func `LUKS in qcow2, data files, LUKS alone, qcow version 1 and raw files are audited`() async throws {
        try await withDirectory { directory in
            let key = try directory.write("key", text: "secret")
            let data = directory.file("data.raw")
            let luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
            for (name, options, leaks) in [
                ("luks", luks, [String]()), ("data", "data_file=\(data)", []),
                ("raw-data", "data_file=\(data)2,data_file_raw=on", []),
                ("luks-data", "data_file=\(data)3,data_file_raw=on,\(luks)", ["ciphertextInRawFile"]),
            ] {
                let path = directory.file(name)
                // QEMU measures the speed of its key derivation, which fails now and then on a busy machine.
                try await Tool.shell(
                    "for i in 1 2 3 4 5 6; do qemu-img create -q -f qcow2 --object secret,id=s,file=\(key) "
                        + "-o \(options) \(path) 5M && exit; done; exit 1")
                let report = try await audit(path, status: leaks.isEmpty ? 0 : 1)
                #expect(report.leaks.map(\.kind) == leaks)
                #expect(report.layers.first?.isEncrypted == options.contains("luks"))
            }
            let container = try await LUKSMaker(directory: directory).format()
            let report = try await audit(container, status: 0)
            #expect(report.layers.first?.format == "luks" && report.layers.first?.isEncrypted == true)
            // One copy of its header is damaged: cryptsetup and serve use the other.
            try Qcow2Editor(path: container).set([0xFF, 0xFF], at: 4096 + 20)
            let damaged = try await audit(container, status: 65)
            #expect(damaged.layers.first?.faultCounts == ["header": 1])
            try await Tool.succeed(
                "qemu-img", ["create", "-q", "-f", "qcow", directory.file("old.qcow"), "5M"])
            #expect(try await audit(directory.file("old.qcow"), status: 0).layers.first?.format == "qcow")
            let raw = try SmallDisk(directory).raw()
            #expect(try await audit(raw, "-f", "raw", status: 0).verdict == "clean")
        }
    }

    // MARK: Damage

    /// What is done to an image, and what both programs find.
    struct Damage: Sendable, CustomStringConvertible {
        let description: String
        var isSharedByQEMU = true
        let kind: String
        let apply: @Sendable (Qcow2Editor) throws -> Void
    }

    private static let copied: UInt64 = 1 << 63

    static let damages = [
        Damage(description: "an L2 entry leads out of the file", kind: "outsideFile") {
            try $0.set(1 << 40 as UInt64, at: try $0.l2Place(of: 5 << 16))
        },
        Damage(description: "an L2 entry has reserved bits", kind: "invalidEntry") {
            try $0.set(try $0.l2Entry(of: 5 << 16) | 16, at: try $0.l2Place(of: 5 << 16))
        },
        Damage(description: "an L2 entry has lost its flag", kind: "copiedFlag") {
            try $0.set(try $0.l2Entry(of: 5 << 16) & ~copied, at: try $0.l2Place(of: 5 << 16))
        },
        Damage(description: "two L2 entries lead to one cluster", kind: "refcountTooLow") {
            try $0.set(try $0.l2Entry(of: 5 << 16), at: try $0.l2Place(of: 6 << 16))
        },
        Damage(description: "an L2 entry leads to the L1 table", kind: "overlap") {
            try $0.set(copied | (try $0.long(at: 40)), at: try $0.l2Place(of: 5 << 16))
        },
        Damage(description: "an L2 table leads to itself", kind: "loop") {
            let table = try $0.long(at: try $0.l1Place(of: 5 << 16)) & Qcow2Editor.offsetMask
            try $0.set(copied | table, at: try $0.l2Place(of: 5 << 16))
        },
        Damage(description: "a reference count is zero", kind: "refcountTooLow") {
            let block = Int(try $0.long(at: Int(try $0.long(at: 48))))
            try $0.set(UInt16(0), at: block + 2 * (try $0.hostOffset(of: 5 << 16) >> 16))
        },
        Damage(description: "the refcount table leads out of the file", kind: "outsideFile") {
            try $0.set(1 << 40 as UInt64, at: Int(try $0.long(at: 48)))
        },
        Damage(description: "an L1 entry has reserved bits", kind: "invalidEntry") {
            let place = try $0.l1Place(of: 0)
            try $0.set(try $0.long(at: place) | 1, at: place)
        },
        Damage(description: "an L1 entry leads out of the file", kind: "outsideFile") {
            try $0.set(1 << 40 as UInt64, at: try $0.l1Place(of: 0))
        },
        Damage(description: "an L2 table is cut off", isSharedByQEMU: false, kind: "outsideFile") {
            let handle = try #require(FileHandle(forReadingAtPath: $0.path))
            let end = (Int(try handle.seekToEnd()) + 65535) / 65536 * 65536
            try $0.set([UInt8](repeating: 0, count: 4096), at: end)
            try $0.set(UInt64(end) | copied, at: try $0.l1Place(of: 0))
            let block = Int(try $0.long(at: Int(try $0.long(at: 48))))
            try $0.set(UInt16(1), at: block + 2 * (end >> 16))
        },
    ]

    @Test(arguments: damages)
    func `what qemu-img check calls corruption is damage, in the same number`(_ damage: Damage) async throws {
        try await withDirectory { directory in
            let contents = DiskContents(mark: 0x1F).bytes(at: 0, count: 4 << 20, .plain)
            let image = try await ImageMaker(directory: directory).image(
                of: contents, ImageRecipe(size: contents.count))
            try damage.apply(Qcow2Editor(path: image.path))
            let report = try await audit(image.path, status: 65)
            let layer = try #require(report.layers.first)
            #expect(report.verdict == "damaged" && layer.faultCounts[damage.kind] ?? 0 > 0, "\(layer.faults)")
            let expected = try await check(image)
            #expect((expected.corruptions ?? 0 > 0) == damage.isSharedByQEMU)
            guard damage.isSharedByQEMU else { return }
            // What the two count differently: clusters with owners that cannot share are faults of their own here.
            let own = ["overlap", "loop", "usedTwice"].map { layer.faultCounts[$0] ?? 0 }.reduce(0, +)
            #expect(layer.faultCount - own == expected.corruptions, "\(layer.faults)")
            #expect(layer.lostClusters.count == expected.leaks ?? 0)
        }
    }

    @Test func `space that nothing uses is no damage`() async throws {
        try await withDirectory { directory in
            let image = try await ImageMaker(directory: directory).image(
                of: Data(repeating: 7, count: 4 << 20), ImageRecipe(size: 4 << 20))
            let editor = Qcow2Editor(path: image.path)
            let places = try [5, 7].map { try editor.hostOffset(of: $0 << 16) }
            for cluster in [5, 7] { try editor.set(UInt64(0), at: try editor.l2Place(of: cluster << 16)) }
            let report = try await audit(image.path, status: 0)
            #expect(report.verdict == "clean" && report.layers.first?.faultCount == 0)
            #expect(report.layers.first?.lostClusters.offsets.map(Int.init) == places.sorted())
            #expect(try await check(image).leaks == 2)
            let text = try await Tool.succeed(try Program.path, ["audit", image.path])
            #expect(text.contains("lost clusters: 2 marked as used"), "\(text)")
        }
    }

    @Test func `a header that cannot be right is damage, with a report`() async throws {
        try await withDirectory { directory in
            let path = try await SmallDisk(directory).plain()
            try Qcow2Editor(path: path).set(UInt32(40), at: 20)
            let report = try await audit(path, status: 65)
            #expect(report.layers.first?.faults.first?.description.contains("cluster_bits") == true)
        }
    }

    @Test func `what a sparse file claims does not make an audit endless`() async throws {
        try await withDirectory { directory in
            let image = try await ImageMaker(directory: directory).empty(ImageRecipe(clusterBits: 21, size: 1 << 30))
            let editor = Qcow2Editor(path: image.path)
            // 32,768 L2 tables of 2 MiB, all of them holes: 64 GiB of tables.
            let count = 32_768
            try editor.set(
                (0..<count).flatMap { Qcow2Editor.bytes(Self.copied | UInt64(16 << 20 + $0 << 21)) }, at: 8 << 20)
            try editor.truncate(to: 96 << 30)
            try editor.set(UInt64(8 << 20), at: 40)
            try editor.set(UInt32(count), at: 36)
            let start = ContinuousClock.now
            let report = try await audit(image.path, status: 65)
            // Holes are not read: each table is found to be there without a reference count.
            #expect(report.layers.first?.faultCounts["refcountTooLow"] ?? 0 >= count)
            #expect(report.layers.first?.faults.count == 100)
            #expect(ContinuousClock.now - start < .seconds(30))
        }
    }

    // MARK: Leaks

    @Test func `compressed clusters of an encrypted image are a leak: 1`() async throws {
        try await withDirectory { directory in
            let contents = DiskContents(mark: 0x2C).bytes(at: 0, count: 1 << 20, .plain)
            let maker = ImageMaker(directory: directory)
            let image = try await maker.image(
                of: contents, ImageRecipe(isEncrypted: true, size: contents.count), compressed: true)
            let report = try await audit(image.path, status: 1)
            #expect(report.verdict == "leaks")
            #expect(report.leaks.map(\.kind) == ["compressedClusters"] && report.leaks.first?.clusterCount == 16)
            let outcome = try await Program.run(["audit", image.path])
            #expect(outcome.code == 1 && outcome.output.contains("16 compressed clusters"), "\(outcome.output)")
            // Damage is said first.
            let editor = Qcow2Editor(path: image.path)
            try editor.set(UInt64(16), at: try editor.l2Place(of: 0))
            #expect(try await audit(image.path, status: 65).leaks.first?.clusterCount == 15)
        }
    }

    // MARK: The command

    @Test func `an image that a program writes to is refused, until --force-share is given`() async throws {
        try await withDirectory { directory in
            let path = try await SmallDisk(directory).plain()
            let output = try await Tool.shell(
                """
                cd \(directory.path)
                stdbuf -oL qemu-io -f qcow2 -c 'write 0 512' -c 'sleep 200000' \(path) > written &
                # Nothing may open the image before it has its lock: qemu-io would find it in use, and end.
                until grep -q wrote written; do kill -0 $!; sleep 0.02; done
                set +e
                \(try Program.path) audit \(path) > refused 2>&1; echo $?
                \(try Program.path) audit --force-share \(path) > /dev/null 2>&1; echo $?
                kill $!
                """)
            #expect(output == "66\n0\n")
            #expect(try File.text(directory.file("refused")).contains("--force-share"))
        }
    }

    @Test func `what is no image is refused by name, and nothing is drawn where there is no terminal`() async throws {
        try await withDirectory { directory in
            let text = try directory.write("text", text: "no image")
            try await Program.expectRefusal(["audit", text], status: 65, saying: "no format that nbdecrypt knows")
            try await Program.expectRefusal(["audit", directory.file("none")], status: 66, saying: "cannot be opened")
            let path = try await SmallDisk(directory).plain()
            let outcome = try await Program.run(["audit", path])
            #expect(outcome.code == 0 && outcome.errors.isEmpty)
            #expect(outcome.output.contains("clean"))
        }
    }
}
