// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `nbdecrypt info`
@Suite(.fewAtATime)
struct InfoTests {
    /// Part of the output of `qemu-img info --output json`.
    private struct QEMUInfo: Decodable {
        struct Specific: Decodable {
            struct Details: Decodable {
                let compat: String
                let refcountBits: Int
                let lazyRefcounts: Bool?
                let compressionType: String

                enum CodingKeys: String, CodingKey {
                    case compat
                    case refcountBits = "refcount-bits"
                    case lazyRefcounts = "lazy-refcounts"
                    case compressionType = "compression-type"
                }
            }

            let data: Details
        }

        let size: UInt64
        let clusterSize: UInt64
        let format: String
        let isEncrypted: Bool?
        let specific: Specific

        enum CodingKeys: String, CodingKey {
            case size = "virtual-size"
            case clusterSize = "cluster-size"
            case format
            case isEncrypted = "encrypted"
            case specific = "format-specific"
        }
    }

    static let recipes = [
        ImageRecipe(size: 5 << 20), ImageRecipe(compat: "0.10", size: 5 << 20 | 0x200),
        ImageRecipe(
            clusterBits: 12, isEncrypted: true, size: 5 << 20, extra: ["lazy_refcounts=on", "refcount_bits=1"]),
        ImageRecipe(clusterBits: 14, compat: "0.10", isEncrypted: true, size: 5 << 20),
        ImageRecipe(size: 5 << 20, extra: ["compression_type=zstd", "refcount_bits=64"]),
    ]

    @Test(arguments: recipes)
    func `it says what qemu-img info and qemu-img check say, without the passphrase`(_ recipe: ImageRecipe) async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ImageMaker(directory: directory).mixed(recipe)
        let text = try await Tool.succeed("qemu-img", ["info", "--output", "json", image.path])
        let expected = try JSONDecoder().decode(QEMUInfo.self, from: Data(text.utf8))
        let details = expected.specific.data
        let report = try await InfoReport.of(image.path)
        #expect(report.image == image.path)
        #expect(report.format == expected.format)
        #expect(report.virtualSize == expected.size)
        #expect(report.clusterSize == expected.clusterSize)
        #expect(report.version == (details.compat == "1.1" ? 3 : 2))
        #expect(report.refcountBits == details.refcountBits)
        #expect(report.compression == (details.compressionType == "zlib" ? "deflate" : details.compressionType))
        #expect(report.features?.compatible == (details.lazyRefcounts == true ? ["lazy refcounts"] : []))
        let usesZstd = details.compressionType == "zstd"
        #expect(report.features?.incompatible == (usesZstd ? ["compression type"] : []))
        #expect(report.encryption.method == (expected.isEncrypted == true ? "aes" : "none"))
        let size = try File.size(image.path)
        #expect(report.fileSize == size)
        let counted = try await image.check()
        #expect(report.clusters?.allocated == counted.allocated)
        #expect(report.clusters?.compressed == counted.compressed)
        #expect(report.clusters?.total == counted.total)
        #expect(report.clusters?.isComplete == true && report.refusal == nil)
    }

    @Test func `the text holds the same for people`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let recipe = ImageRecipe(isEncrypted: true, size: 5 << 20, extra: ["lazy_refcounts=on"])
        let image = try await ImageMaker(directory: directory).mixed(recipe)
        let counted = try await image.check()
        let text = try await Tool.succeed(try Program.path, ["info", image.path])
        for part in [
            image.path, "qcow2 version 3", "5242880 bytes", "5.0 MiB", "65536 bytes", "lazy refcounts", "deflate",
            "\(counted.allocated ?? 0) of 81 allocated", "\(counted.compressed ?? 0) compressed", "AES-128",
        ] {
            #expect(text.contains(part) || text.contains(part.replacing("81", with: "80")), "'\(part)' in \(text)")
        }
    }

    @Test func `for an AES image it says why that is weak and what to type next; a leak through compression is named`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ImageMaker(directory: directory).mixed(ImageRecipe(isEncrypted: true, size: 2 << 20))
        let report = try await InfoReport.of(image.path)
        #expect(report.encryption.description.contains("AES-128"))
        #expect(!report.encryption.weaknesses.isEmpty)
        let step = try #require(report.encryption.nextSteps.first)
        #expect(step == "nbdecrypt migrate \(image.path) new.qcow2")
        let text = try await Tool.succeed(try Program.path, ["info", image.path])
        #expect(text.contains("compressed clusters are never encrypted") || text.contains("not encrypted"), "\(text)")
    }

    @Test func `the command that it prints moves the disk to LUKS, whatever the image is called`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = directory.file("it's old $HOME")
        try FileManager.default.moveItem(atPath: try await disk.encrypted("old secret"), toPath: image)
        try directory.write("passphrase", text: "old secret")
        try directory.write("new-passphrase", text: "new secret")
        let steps = try await InfoReport.of(image).encryption.nextSteps
        try #require(steps.count == 1)
        let text = try await Tool.succeed(try Program.path, ["info", image])
        #expect(text.contains("  \(steps[0])\n"))
        // The passphrases would be asked for.
        let command = steps[0].replacing(
            "nbdecrypt migrate", with: "\(try Program.path) migrate --passphrase-file passphrase")
        try await Tool.shell(
            """
            cd \(directory.path)
            \(command) --new-passphrase-file new-passphrase
            qemu-img convert --object secret,id=s,file=new-passphrase \
                --image-opts driver=qcow2,file.filename=new.qcow2,encrypt.format=luks,encrypt.key-secret=s -O raw found.raw
            """)
        let found = try File.contents(directory.file("found.raw"))
        #expect(found == disk.contents)
    }

    @Test func `a raw file is described with -f raw`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let report = try await InfoReport.of(try SmallDisk(directory).raw(), "-f", "raw")
        #expect(report.format == "raw" && report.virtualSize == 1 << 20 && report.encryption.method == "none")
    }

    @Test func `names in an image cannot fool the terminal or the JSON`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let base = try directory.write("base.raw", Data(count: 1 << 20))
        let path = directory.file("image.qcow2")
        try await Tool.succeed("qemu-img", ["create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", path])
        let editor = Qcow2Editor(path: path)
        let offset = Int(try editor.long(at: 8))
        // ESC, a line feed, a quotation mark, a byte that is no UTF-8.
        let name: [UInt8] = [0x1B, 0x5B, 0x32, 0x4A, 0x0A, 0x22, 0xFF, 0x5C]
        try editor.set(name, at: offset)
        try editor.set(UInt32(name.count), at: 16)
        let report = try await InfoReport.of(path)
        #expect(report.backingFile == "\u{FFFD}[2J\u{FFFD}\"\u{FFFD}\\")
        let text = try await Tool.succeed(try Program.path, ["info", path])
        #expect(!text.contains("\u{1B}"))
        let outcome = try await Program.run(["serve", path, "--socket", directory.file("s")])
        #expect(outcome.code == 65 && !outcome.errors.contains("\u{1B}"))
    }
}
