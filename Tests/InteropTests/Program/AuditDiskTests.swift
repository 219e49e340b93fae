// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What `nbdecrypt audit` finds on a disk that can be read without a key.
@Suite(.fewAtATime)
struct AuditDiskTests {
    /// What `nbdecrypt audit --json` prints.
    private struct Report: Decodable {
        struct Layer: Decodable {
            let name: String
            let format: String
            let isEncrypted: Bool
            let faultCount: Int
        }

        struct Leak: Decodable {
            let kind: String
            let description: String
        }

        let verdict: String
        let layers: [Layer]
        let containers: [Layer]
        let unseen: [String]
        let leaks: [Leak]
    }

    @Test(arguments: ["raw", "qcow2", "qcow"])
    func `a container on the disk, in a partition or in a logical volume is audited as one in a file is`(
        _ format: String
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory, size: 8 << 20)
        let options = LUKSMaker.cheap + ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "256k"]
        let sound = try await maker.format("sound", options: options)
        let linear = try await maker.format("linear", options: options)
        try await maker.edit(
            linear,
            """
            metadata['segments']['0'] = {'type': 'linear', 'offset': metadata['segments']['0']['offset'], 'size': 'dynamic'}
            metadata['digests']['0']['segments'] = []
            """)
        let damaged = try await maker.format("damaged", options: options)
        // The checksum of the first copy.
        try LVMImage.write(Data([1, 2, 3]), to: damaged, at: 448)
        for (container, verdict, status) in [(sound, "clean", 0), (linear, "leaks", 1), (damaged, "damaged", 65)]
            as [(String, String, Int32)]
        {
            let contents = try File.contents(container)
            for place in ["the disk", "partition 2", "logical volume two/secret"] {
                if place == "the disk", format == "raw" { continue }
                let path: String
                switch place {
                case "the disk": path = container
                case "partition 2":
                    path = try directory.write("disk.raw", Data(count: 16 << 20))
                    try await Tool.shell(
                        "printf 'label: gpt\nsize=1M\nsize=8M\n' | PATH=$PATH:/usr/sbin sfdisk -q \(path)")
                    try LVMImage.write(contents, to: path, at: 2 << 20)
                default:
                    path = try await LVMImage(directory: directory).two()
                    try LVMImage.write(contents, to: path, at: LVMImage.secret)
                }
                let image = try await converted(path, format, directory)
                let report = try await audit(image)
                let name = place == "the disk" ? "the disk of \(image[0])" : "\(place) of \(image[0])"
                #expect(report.layers.map(\.isEncrypted) == [false])
                #expect(report.containers.map(\.name) == [name] && report.containers.map(\.format) == ["luks"])
                #expect((report.containers.first?.faultCount ?? 0) > 0 || verdict != "damaged", "\(report)")
                #expect(report.leaks.map(\.kind) == (verdict == "leaks" ? ["plaintextPart"] : []))
                #expect(report.leaks.allSatisfy { $0.description.contains(name) }, "\(report.leaks)")
                // Thin volumes and their like are beside the one in a volume group.
                let isAllSeen = !place.hasPrefix("logical") || verdict == "damaged"
                #expect(report.verdict == (isAllSeen ? verdict : "incomplete"), "\(report)")
                let outcome = try await Program.run(["audit"] + image)
                #expect(outcome.code == (isAllSeen ? status : 65), "\(outcome.errors)")
            }
        }
    }

    @Test func `what cannot be looked into is no clean disk: it is named, and serve --audit warns of it`() async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = try await LVMImage(directory: directory).two()
        let report = try await audit([path, "-f", "raw"])
        #expect(report.verdict == "incomplete" && report.containers.isEmpty)
        for (volume, what) in [
            ("frozen", "is a snapshot of origin"), ("raid1", "is of type raid1"), ("raid0", "is of type raid0"),
            ("mirror", "is of type mirror"), ("pool", "is of type thin-pool"), ("thin", "is of type thin"),
        ] {
            #expect(report.unseen.contains { $0.contains("logical volume two/\(volume) \(what)") }, "\(report.unseen)")
        }
        #expect(report.unseen.count == 6)
        let text = try await Program.run(["audit", path, "-f", "raw"])
        #expect(
            text.code == 65 && text.errors.contains("not all was examined: logical volume two/frozen is a snapshot"))
        // Those that are on the other partition cannot be seen either.
        let one = try await audit([path, "-f", "raw", "--partition", "1"])
        #expect(one.unseen.contains { $0.contains("two/linear needs a physical volume that is not on this disk") })
        let outcome = try await ServerUnderTest.run(
            ["serve", path, "-f", "raw", "--audit", "--logical-volume", "two/fine", "--socket", directory.file("s")],
            in: directory
        ) { _ in }
        #expect(outcome.errors.contains("not all was examined: logical volume two/frozen is a snapshot of origin"))
        // A table whose unit is not known, and one that is said.
        let ambiguous = try directory.write("mbr", Data(count: 64 << 20))
        try await Tool.shell("echo start=2048,size=1M | PATH=$PATH:/usr/sbin sfdisk -q --label dos \(ambiguous)")
        #expect(try await audit([ambiguous, "-f", "raw"]).unseen.first?.contains("--sector-size") == true)
        #expect(try await audit([ambiguous, "-f", "raw", "--sector-size", "512"]).verdict == "clean")
        // A volume group all of which is read.
        let whole = try await LVMImage(directory: directory).whole()
        #expect(try await audit([whole, "-f", "raw"]).verdict == "clean")
        // Label and texts with a wrong checksum.
        try LVMImage.write(Data([1]), to: whole, at: 1000)
        #expect(try await audit([whole, "-f", "raw"]).unseen.first?.contains("checksum") == true)
    }

    @Test func `a part of the disk is audited alone; it is the data of a detached header`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory, size: 8 << 20)
        let luks = try await maker.format(options: LUKSMaker.cheap + ["--luks2-keyslots-size", "256k"])
        try await maker.cryptsetup(["luksHeaderBackup", luks, "--header-backup-file", directory.file("header")])
        let path = try directory.write("disk.raw", Data(count: 16 << 20))
        try await Tool.shell(
            "printf 'label: gpt\nsize=64K\nsize=8M\n' | PATH=$PATH:/usr/sbin sfdisk -q \(path)")
        let header = ["--header", directory.file("header")]
        let partition = [path, "-f", "raw", "--partition"]
        #expect(try await audit(partition + ["2"] + header).verdict == "clean")
        #expect(try await audit([path, "--offset", "4M"] + header).verdict == "clean")
        // The payload would begin behind the end of the part.
        for part in [["--partition", "1"], ["--offset", "4M", "--size", "64K"]] {
            let image = [path, "-f", "raw"] + part + header
            let audit = try await Program.run(["audit"] + image)
            #expect(audit.code == 65 && audit.errors.contains("within the 65536 bytes"), "\(audit.errors)")
            try await Program.expectRefusal(["info"] + image, status: 65, saying: "within the 65536 bytes")
        }
        #expect(try await audit(partition + ["2"]).containers.isEmpty)
        try LVMImage.write(try File.contents(luks), to: path, at: 2 << 20)
        #expect(try await audit(partition + ["2"]).containers.count == 1)
        #expect(try await audit(partition + ["1"]).containers.isEmpty)
        try await Program.expectRefusal(
            ["audit", path, "-f", "raw", "--partition", "3"], status: 64, saying: "no partition 3; it has 1, 2")
        try await Program.expectRefusal(
            ["audit", luks, "--partition", "1"], status: 64, saying: "audit decrypts nothing")
    }

    private func audit(_ image: [String]) async throws -> Report {
        let outcome = try await Program.run(["audit", "--json"] + image)
        return try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
    }

    private func converted(_ path: String, _ format: String, _ directory: TemporaryDirectory) async throws -> [String] {
        guard format != "raw" else { return [path, "-f", "raw"] }
        let image = directory.file("image")
        try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", format, path, image])
        return [image]
    }
}
