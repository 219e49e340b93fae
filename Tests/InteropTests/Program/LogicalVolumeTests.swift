// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Logical volumes of LVM, wherever their physical volumes are.
@Suite(.fewAtATime)
struct LogicalVolumeTests {
    private static let secretSize = 32 * LVMImage.extent
    private static let luks = LUKSMaker.cheap + ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "256k"]

    @Test func `--exports all offers what is linear or striped, decrypted if it holds LUKS, and names the rest`()
        async throws
    {
        try await withSecret { directory, path, plain, container, secret in
            let outcome = try await serve([path, "-f", "raw", "--exports", "all"] + secret, directory) { server in
                let exports = try server.exports()
                let volumes = ["linear", "odd-name_1.x", "striped", "fine", "secret", "origin"].map { "lv/two/\($0)" }
                #expect(exports.keys.sorted() == (["", "partition/1", "partition/2"] + volumes).sorted())
                #expect(exports["lv/two/fine"] == "striped logical volume two/fine")
                #expect(
                    exports["lv/two/secret"]
                        == "LUKS2, aes-xts-plain64, decrypted, in linear logical volume two/secret")
                try server.expect(plain, at: "lv/two/secret")
            }
            for refusal in [
                "two/frozen is a snapshot of origin", "two/raid1 is of type raid1", "two/thin is of type thin",
                "two/pool is of type thin-pool", "two/mirror is of type mirror", "two/raid0 is of type raid0",
            ] {
                #expect(outcome.errors.contains("warning: \(path): logical volume \(refusal), which"))
            }
            // Without the secret, or with another one.
            let wrong = ["--passphrase-file", try directory.write("wrong", text: "wrong")]
            for secret in [[], wrong] {
                let image = [path, "-f", "raw", "--exports", "all"] + secret
                let outcome = try await serve(image, directory) { server in
                    #expect(try server.exports()["lv/two/secret"]?.contains("LUKS, not decrypted") == true)
                    try server.expect(container, at: "lv/two/secret")
                }
                #expect(outcome.errors.contains("the logical volume is taken as it is"), "\(outcome.errors)")
            }
        }
    }

    @Test func `one is served by its name: from the command line, a list of exports, or a file`() async throws {
        try await withSecret { directory, path, plain, container, secret in
            let one = [path, "-f", "raw", "--logical-volume", "two/secret"]
            try await serve(one + secret, directory) { server in
                try server.expectContents(plain)
                #expect(try server.exports().keys.sorted() == [""])
            }
            try await serve(one + ["--partition", "1"] + secret, directory) { try $0.expectContents(plain) }
            try await serve(one + ["--offset", "1M", "--size", "60M"] + secret, directory) {
                try $0.expectContents(plain)
            }
            try await serve(one + ["--exports", "ciphertext"], directory) { server in
                try server.expectExports("ciphertext")
                try server.expect(container, at: "ciphertext")
            }
            let listed = [path, "-f", "raw", "--exports", "lv/two/secret,disk"] + secret
            try await serve(listed, directory) { server in
                try server.expectExports("", "lv/two/secret")
                try server.expect(plain, at: "lv/two/secret")
            }
            let config = try directory.write(
                "config.json",
                text: """
                    {"images": [{"path": "two.raw", "name": "x", "format": "raw", "logical-volume": "two/secret",
                      "passphrase-file": "p"}]}
                    """)
            try await serve(["--config", config], directory) { try $0.expect(plain, at: "x") }
        }
    }

    @Test func `a volume over two partitions is read from both`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = try await LVMImage(directory: directory).two()
        let contents = DiskContents(mark: 3).bytes(at: 0, count: 4 << 20, .noise)
        // In chunks of 64 KiB, from extent 12 of the first and 4 of the second physical volume.
        for chunk in 0..<64 {
            let place = chunk % 2 == 0 ? (2 << 20) + 12 * LVMImage.extent : (62 << 20) + 4 * LVMImage.extent
            let offset = place + chunk / 2 * (64 << 10)
            try LVMImage.write(
                contents[(chunk * (64 << 10))..<((chunk + 1) * (64 << 10))], to: path, at: offset)
        }
        try await serve([path, "-f", "raw", "--logical-volume", "two/striped"], directory) {
            try $0.expectContents(contents)
        }
        // On a guest's disk, too.
        let guest = directory.file("guest.qcow2")
        try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", path, guest])
        try await serve([guest, "--logical-volume", "two/striped"], directory) { try $0.expectContents(contents) }
    }

    @Test func `a physical volume in a LUKS container is opened first: of a file, of a partition`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let whole = try await LVMImage(directory: directory).whole()
        // 5 MiB from the first extent on, behind the label and 32 KiB of metadata.
        let contents = DiskContents(mark: 5).bytes(at: 0, count: 5 << 20, .noise)
        try LVMImage.write(contents, to: whole, at: 36 << 10)
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        try await serve([whole, "-f", "raw", "--logical-volume", "whole/data"], directory) {
            try $0.expectContents(contents)
        }
        let container = directory.file("whole.luks")
        try await LUKSMaker.qemu(whole, container, passphrase: secret[1])
        let outcome = try await serve([container] + secret, directory) {
            try $0.expectContents(try File.contents(whole))
        }
        #expect(
            outcome.errors.contains(
                "the disk: LVM physical volume of the volume group whole; to take a logical volume of it, say --logical-volume whole/data (there are: whole/data, whole/more)"
            ), "\(outcome.errors)")
        try await serve([container, "--logical-volume", "whole/data"] + secret, directory) {
            try $0.expectContents(contents)
        }
        let disk = directory.file("disk.raw")
        try await Tool.succeed("truncate", ["-s", "64M", disk])
        let script = "label: dos\nstart=1MiB,size=2MiB,type=83\nstart=4MiB,size=40MiB,type=83\n"
        try await Tool.succeed("sfdisk", ["-q", disk], input: Array(script.utf8))
        try LVMImage.write(try File.contents(container), to: disk, at: 4 << 20)
        for part in [[], ["--partition", "2"]] {
            try await serve([disk, "-f", "raw", "--logical-volume", "whole/data"] + part + secret, directory) {
                try $0.expectContents(contents)
            }
        }
        try await serve([disk, "-f", "raw", "--exports", "all"] + secret, directory) { server in
            try server.expect(contents, at: "lv/whole/data")
            #expect(try server.exports().keys.contains("lv/whole/more"))
        }
        try await Program.expectRefusal(
            ["serve", "--socket", directory.file("s"), disk, "-f", "raw", "--logical-volume", "whole/data"],
            status: 77, saying: "partition 2", "is encrypted")
    }

    @Test func `what cannot be served is refused by name, and a physical volume that is served as it is, is named`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = LVMImage(directory: directory)
        let path = try await image.two()
        for (arguments, status, says) in [
            (["--logical-volume", "two/raid1"], 65, "logical volume two/raid1 is of type raid1"),
            (["--logical-volume", "two/frozen"], 65, "is a snapshot of origin"),
            (
                ["--logical-volume", "two/striped", "--partition", "1"], 65,
                "/dev/loop1 when the group was last changed"
            ),
            (
                ["--logical-volume", "two/none"], 64,
                "has no logical volume two/none; it has two/linear, two/odd-name_1.x"
            ),
            (["--logical-volume", "one/linear"], 64, "has no logical volume one/linear"),
            (["--logical-volume", "linear"], 64, "--logical-volume takes the names of a volume group and a volume"),
            (["--logical-volume", "two/fine", "--writable"], 64, "logical volumes are only read"),
            (["--exports", "lv/two"], 64, "there may be: disk, snapshot/NAME, partition/N, lv/GROUP/VOLUME"),
        ] as [([String], Int32, String)] {
            let outcome = try await Program.run(
                ["serve", path, "-f", "raw", "--socket", directory.file("s")] + arguments)
            #expect(outcome.code == status && outcome.errors.contains(says), "\(arguments): \(outcome.errors)")
        }
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        let disk = try await serve([path, "-f", "raw"] + secret, directory) { _ in }
        #expect(
            disk.errors.contains("partition 1, partition 2: LVM physical volume of the volume group two; to take a"))
        #expect(!disk.errors.contains("is not encrypted"))
        let part = try await serve([path, "-f", "raw", "--partition", "2"], directory) { _ in }
        #expect(
            part.errors.contains("partition 2: LVM physical volume of the volume group two; to take a logical volume"))
        let whole = try await image.whole()
        try await Program.expectRefusal(
            ["serve", whole, "--socket", directory.file("s")], status: 65,
            saying: "an LVM physical volume as a whole; say -f raw")
        // A label whose checksum is wrong.
        try LVMImage.write(Data([1]), to: path, at: (1 << 20) + 1000)
        let damaged = try await serve([path, "-f", "raw", "--partition", "1"], directory) { _ in }
        #expect(
            damaged.errors.contains(
                "partition 1 is an LVM physical volume, but it is damaged: label of an LVM physical volume: checksum"),
            "\(damaged.errors)")
    }

    /// The volume group "two", with a LUKS container in its volume "secret".
    private func withSecret(
        _ body: (TemporaryDirectory, String, _ plain: Data, _ container: Data, _ secret: [String]) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = try await LVMImage(directory: directory).two()
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        let luks = try await LUKSMaker(directory: directory, size: Self.secretSize).format(options: Self.luks)
        let container = try File.contents(luks)
        try LVMImage.write(container, to: path, at: LVMImage.secret)
        // What it holds is what is served of the container alone, which other tests compare with dm-crypt.
        let plain = directory.file("plain")
        try await Tool.succeed(
            try Program.path,
            ["serve", luks] + secret + ["--run", "nbdcopy \"$uri\" \(plain)"])
        try await body(directory, path, try File.contents(plain), container, secret)
    }

    @discardableResult
    private func serve(
        _ arguments: [String], _ directory: TemporaryDirectory, _ body: (ServerUnderTest) async throws -> Void
    ) async throws -> Tool.Outcome {
        try await ServerUnderTest.run(["serve", "--socket", directory.file("s")] + arguments, in: directory, body)
    }
}
