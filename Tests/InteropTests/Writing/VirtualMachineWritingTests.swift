// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// File systems that a kernel makes, fills and checks on writable exports, through nbd-client; dm-crypt and QEMU read the images
/// again. `make test-vm` runs this.
@Suite(.fewAtATime)
struct VirtualMachineWritingTests {
    /// An image for the guest.
    private struct Image {
        let name: String
        let fileSystem: String
        let make: (String) async throws -> Void
    }

    @Test func `the kernel's file systems are sound on what is written, and dm-crypt and QEMU read it`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let share = directory.file("share")
        let out = directory.file("out")
        for path in [share, out, "\(share)/images"] {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        }
        let passphrase = "correct horse"
        try directory.write("share/noise", DiskContents(mark: 0x2E).bytes(at: 0, count: 1 << 20, .noise))
        let images = images(passphrase)
        for image in images {
            let place = "\(share)/images/\(image.name)"
            try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
            try Data(image.fileSystem.utf8).write(to: URL(filePath: "\(place)/fs"))
            try Data(passphrase.utf8).write(to: URL(filePath: "\(place)/passphrase"))
            try await image.make(place)
        }
        let formats = ["luks1", "luks2"]
        for format in formats {
            try await migrate(to: format, in: directory, "\(share)/migrated/\(format)", passphrase)
        }
        let vm = "\(Program.root)/scripts/vm"
        let tools = try await Tool.shell("PATH=$PATH:/usr/sbin:/sbin; command -v mkfs.xfs xfs_repair e2fsck")
        try await Tool.succeed(
            vm, ["bundle", share, try Program.path] + tools.split(separator: "\n").map(String.init))
        let outcome = try await Tool.run(
            vm, ["run", "--share", share, "--out", out, Program.helper("writing_guest.sh")],
            environment: ["VM_TIMEOUT": "900"], seconds: 900)
        #expect(outcome.code == 0, "\(outcome.errors)")
        for format in formats {
            #expect(
                outcome.output.contains("\(format): dm-crypt reads what was copied"),
                "\(outcome.output)\(outcome.errors)")
        }
        for image in images {
            var lines = ["\(image.name): \(image.fileSystem) is sound"]
            if image.name.hasPrefix("luks") {
                lines += ["dm-crypt reads the same", "the files are there", "what dm-crypt wrote is read"].map {
                    "\(image.name): \($0)"
                }
            } else {
                try await compare(image.name, in: out, "\(share)/images/\(image.name)/passphrase")
            }
            for line in lines { #expect(outcome.output.contains(line), "\(line): \(outcome.output)\(outcome.errors)") }
        }
    }

    /// Makes a container with the copy of a disk, and the hash of that.
    private func migrate(
        to format: String, in directory: TemporaryDirectory, _ place: String, _ passphrase: String
    ) async throws {
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        try Data(passphrase.utf8).write(to: URL(filePath: "\(place)/passphrase"))
        let size = (3 << 20) + 512
        let old = try directory.write("old.raw", DiskContents(mark: 0x31).bytes(at: 0, count: size, .noise))
        try await Tool.succeed(
            Program.path,
            ["migrate", "-f", "raw", old, "\(place)/disk", "--to", format, "--iter-time", "10"]
                + ["--new-passphrase-file", "\(place)/passphrase"])
        try await Tool.shell("sha256sum < \(old) > \(place)/hash")
    }

    /// QEMU checks an image, and reads what the guest's kernel has read.
    private func compare(_ name: String, in out: String, _ passphrase: String) async throws {
        let secret = ["--object", "secret,id=s,file=\(passphrase)"]
        let options = "driver=qcow2,file.filename=\(out)/\(name),encrypt.format=luks,encrypt.key-secret=s"
        try await Tool.succeed("qemu-img", ["check"] + secret + ["--image-opts", options])
        let raw = "\(out)/\(name).raw"
        try await Tool.succeed("qemu-img", ["convert"] + secret + ["--image-opts", options, "-O", "raw", raw])
        let hash = try await Tool.shell("head -c 80M \(raw) | sha256sum")
        #expect(try File.text("\(out)/\(name).hash") == hash, "\(name)")
    }

    private func images(_ passphrase: String) -> [Image] {
        func qcow2(_ name: String, _ fileSystem: String, _ size: String, _ options: String) -> Image {
            Image(name: name, fileSystem: fileSystem) { place in
                try await Tool.shell(
                    """
                    for try in $(seq 100); do
                        qemu-img create -q -f qcow2 --object secret,id=s,file=\(place)/passphrase \
                            -o encrypt.iter-time=10,encrypt.format=luks,encrypt.key-secret=s,\(options) \(place)/disk \(size) && exit
                    done
                    exit 1
                    """)
            }
        }
        func luks(_ name: String, _ fileSystem: String, _ size: String, _ options: [String]) -> Image {
            Image(name: name, fileSystem: fileSystem) { place in
                try await Tool.shell("truncate -s \(size) \(place)/disk")
                try await Tool.succeed(
                    "cryptsetup",
                    ["--batch-mode", "luksFormat"] + LUKSMaker.cheap + options + [
                        "\(place)/disk", "\(place)/passphrase",
                    ])
            }
        }
        return [
            qcow2("qcow2-luks", "xfs", "310M", "cluster_size=65536"),
            luks("luks2", "ext4", "64M", ["--type", "luks2", "--sector-size", "512"]),
            luks("luks2-4k", "xfs", "340M", ["--type", "luks2", "--sector-size", "4096"]),
            luks("luks1-essiv", "ext4", "24M", ["--type", "luks1", "--cipher", "aes-cbc-essiv:sha256"]),
        ]
    }
}
