// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Images that are sound but use what this version does not read.
@Suite(.fewAtATime)
struct RefusalTests {
    /// How to make an image, with `IMAGE` and `DIR` in it, and what the refusal says.
    struct Kind: Sendable, CustomStringConvertible {
        let description: String
        let script: String
        let says: [String]
        /// What `info` says: feature names, or "" when only success counts.
        var incompatible: [String] = []
    }

    static let shapes = [
        Kind(
            description: "backing file",
            script: "qemu-img create -q -f raw DIR/base.raw 1M; qemu-img create -q -f qcow2 -b base.raw -F raw IMAGE",
            says: ["base.raw (not opened), format raw"]),
        Kind(
            description: "external data file",
            script: "qemu-img create -q -f qcow2 -o data_file=DIR/data.raw IMAGE 1M",
            says: ["data.raw (not opened)"], incompatible: ["external data file"]),
        Kind(
            description: "extended L2 entries",
            script: "qemu-img create -q -f qcow2 -o extended_l2=on IMAGE 1M",
            says: ["extended L2 entries"], incompatible: ["extended L2 entries"]),
        Kind(
            description: "internal snapshots",
            script: "qemu-img create -q -f qcow2 IMAGE 1M; qemu-img snapshot -c a IMAGE; qemu-img snapshot -c b IMAGE",
            says: ["snapshots:    2"]),
    ]

    static let otherFormats = [
        Kind(description: "VMDK", script: "qemu-img create -q -f vmdk IMAGE 1M", says: ["VMDK"]),
        Kind(
            description: "VMDK descriptor", script: "qemu-img create -q -f vmdk -o subformat=monolithicFlat IMAGE 1M",
            says: ["VMDK"]),
        Kind(description: "VHDX", script: "qemu-img create -q -f vhdx IMAGE 4M", says: ["VHDX"]),
        Kind(description: "VHD", script: "qemu-img create -q -f vpc IMAGE 4M", says: ["VHD"]),
        Kind(description: "QED", script: "qemu-img create -q -f qed IMAGE 1M", says: ["QED"]),
        Kind(description: "VDI", script: "qemu-img create -q -f vdi IMAGE 1M", says: ["VDI"]),
        Kind(description: "Parallels", script: "qemu-img create -q -f parallels IMAGE 1M", says: ["Parallels"]),
    ]

    @Test func `the command that is printed for the URL of an NBD server copies the image`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.plain()
        let outcome = try await Program.run(
            [
                "serve", "-f", "raw", image, "--run",
                "\(try Program.path) info \"$uri\" 2> \(directory.file("said"));"
                    + " cd \(directory.path); eval \"$(sed 's/.*first: \\(.*\\), then.*/\\1/' said)\"",
            ])
        #expect(outcome.code == 0, "\(outcome.errors)")
        try await Tool.succeed("cmp", [image, directory.file("image")])
    }

    @Test(arguments: shapes)
    func `info shows what an image is made of, and opens none of it`(_ kind: Kind) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await make(kind, directory)
        for other in ["base.raw", "data.raw"] { try? FileManager.default.removeItem(atPath: directory.file(other)) }
        let report = try await InfoReport.of(image)
        #expect(report.features?.incompatible == kind.incompatible)
        #expect(report.virtualSize == 1 << 20 && report.refusal == nil)
        let text = try await Tool.succeed(try Program.path, ["info", image])
        for part in kind.says { #expect(text.contains(part), "'\(part)' in \(text)") }
    }

    @Test(arguments: otherFormats)
    func `other formats are refused by name`(_ kind: Kind) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await make(kind, directory)
        for arguments in [["serve", image, "--socket", directory.file("s")], ["info", image]] {
            Program.expectRefusal(try await Program.run(arguments), status: 65, saying: [image] + kind.says)
        }
    }

    @Test func `an unknown feature is refused with the name that the image gives it`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ImageMaker(directory: directory).empty(ImageRecipe(size: 1 << 20))
        let editor = Qcow2Editor(path: image.path)
        try editor.set(UInt64(1) << 40 | 1 << 5, at: 72)
        try await Program.expectRefusal(
            ["serve", image.path, "--socket", directory.file("s")], status: 65, saying: "unknown bit 5",
            "unknown bit 40")
        // The first entry of the feature name table becomes the name of bit 40.
        let bytes = try File.contents(image.path)
        let table = try #require(bytes.firstRange(of: Data(Qcow2Editor.bytes(UInt32(0x6803_F857)))))
        try editor.set([0, 40] + Array("time travel".utf8) + [0], at: table.lowerBound + 8)
        try await Program.expectRefusal(
            ["serve", image.path, "--socket", directory.file("s")], status: 65, saying: "unknown bit 5", "time travel")
        let report = try await InfoReport.of(image.path)
        #expect(report.features?.incompatible == ["unknown bit 5", "time travel"])
        #expect(report.refusal?.contains("time travel") == true)
    }

    @Test(arguments: ["info", "serve"], ["backing", "data"])
    func `no other file that an image names is ever opened`(_ command: String, _ reference: String) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = directory.file("image.qcow2")
        let named = directory.file("named")
        if reference == "backing" {
            try await Tool.succeed(
                "qemu-img", ["create", "-q", "-f", "qcow2", "-u", "-b", named, "-F", "raw", image, "1M"])
        } else {
            try await Tool.succeed(
                "qemu-img", ["create", "-q", "-f", "qcow2", "-o", "data_file=\(named)", image, "1M"])
            try FileManager.default.removeItem(atPath: named)
        }
        try await Tool.succeed("mkfifo", [named])
        let place = command == "serve" ? ["--socket", directory.file("s")] : []
        let watched = try await Tool.succeed(
            "python3", [Program.helper("watch_opens.py"), named, try Program.path, command, image] + place)
        #expect(watched == (command == "serve" ? "65 0\n" : "0 0\n"), "status and number of opens")
        // The watch works: QEMU would open it.
        let seen = try await Tool.succeed(
            "python3", [Program.helper("watch_opens.py"), named, "dd", "if=\(named)", "iflag=nonblock", "count=1"])
        #expect(seen == "0 1\n")
    }

    private func make(_ kind: Kind, _ directory: TemporaryDirectory) async throws -> String {
        let image = directory.file("image")
        try await Tool.shell(
            "cd \(directory.path); "
                + kind.script.replacing("IMAGE", with: image).replacing("DIR", with: directory.path))
        return image
    }
}
