// SPDX-License-Identifier: Apache-2.0

import Foundation
import TestSupport
import Testing

/// An image to put an overlay over: of each kind that is served.
struct OverlayImage {
    enum Kind: String, CaseIterable, CustomTestStringConvertible {
        case raw, compressed, chain, qcow2AES, qcow2LUKS, luks1, luks2, partition, partitionLUKS, guestLUKS, detached

        var testDescription: String { rawValue }
    }

    /// All files that belong to it.
    let files: [String]
    /// What `serve` is told.
    let arguments: [String]
    /// The disk that is served.
    let disk: Data
    private static let passphrase = "correct horse battery staple"

    static func make(_ kind: Kind, in directory: TemporaryDirectory) async throws -> OverlayImage {
        // Not whole clusters; for a raw file not whole units, either.
        let size = 8 << 20 + 7 * 512
        let disk = DiskContents(mark: 0x0F).striped(count: size, clusterSize: 64 << 10)
        let secret = ["--passphrase-file", try directory.write("passphrase", text: passphrase)]
        func make(_ recipe: ImageRecipe, compressed: Bool = false) async throws -> String {
            let maker = ImageMaker(directory: directory, passphrase: passphrase)
            return try await maker.image(of: disk, recipe, compressed: compressed).path
        }
        switch kind {
        case .raw:
            let path = try directory.write("disk.raw", disk)
            return OverlayImage(files: [path], arguments: [path, "-f", "raw"], disk: disk)
        case .compressed:
            let path = try await make(ImageRecipe(size: size), compressed: true)
            return OverlayImage(files: [path], arguments: [path], disk: disk)
        case .chain:
            let base = try directory.write("base.raw", disk)
            let (middle, top) = (directory.file("middle.qcow2"), directory.file("top.qcow2"))
            try await Tool.shell(
                """
                cd \(directory.path)
                qemu-img create -q -f qcow2 -b base.raw -F raw middle.qcow2
                qemu-io -c 'write -P 1 100k 1M' middle.qcow2 > middle.log
                qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2
                qemu-io -c 'write -P 2 1M 1M' -c 'write -z 4M 1M' top.qcow2 > top.log
                qemu-img convert -O raw top.qcow2 all.raw
                """)
            return OverlayImage(
                files: [base, middle, top], arguments: [top], disk: try File.contents(directory.file("all.raw")))
        case .qcow2AES:
            let path = try await make(ImageRecipe(isEncrypted: true, size: size))
            return OverlayImage(files: [path], arguments: [path] + secret, disk: disk)
        case .qcow2LUKS:
            let (plain, path) = (try directory.write("plain.raw", disk), directory.file("luks.qcow2"))
            try await Tool.shell(
                """
                for i in $(seq 200); do  # it measures the processor, and fails on a busy machine
                    qemu-img convert -q -f raw -O qcow2 --object secret,id=s,file=\(secret[1]) \
                        -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \(plain) \(path) && exit
                done
                exit 1
                """)
            return OverlayImage(files: [path], arguments: [path] + secret, disk: disk)
        case .luks1:
            let (plain, path) = (try directory.write("plain.raw", disk), directory.file("disk.luks"))
            try await LUKSMaker.qemu(plain, path, passphrase: secret[1])
            return OverlayImage(files: [path], arguments: [path] + secret, disk: disk)
        case .luks2, .guestLUKS, .partitionLUKS, .detached:
            let maker = LUKSMaker(directory: directory, size: 24 << 20)
            let path = try await maker.format(passphrase: passphrase)
            // Whatever the ciphertext decrypts to.
            var plain = Data()
            try await ServerUnderTest.run(["serve", path, "--socket", directory.file("o")] + secret, in: directory) {
                let client = try LibNBDClient($0.uri)
                plain = try client.read(client.size, at: 0)
            }
            switch kind {
            case .guestLUKS:
                let image = directory.file("guest.qcow2")
                try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", path, image])
                return OverlayImage(files: [image], arguments: [image] + secret, disk: plain)
            case .partitionLUKS:
                let image = try partitioned(try File.contents(path), in: directory)
                try await label(image, sectors: (24 << 20) / 512)
                let arguments = [image, "-f", "raw", "--partition", "1"] + secret
                return OverlayImage(files: [image], arguments: arguments, disk: plain)
            case .detached:
                let header = directory.file("header.img")
                try await maker.cryptsetup(["luksHeaderBackup", path, "--header-backup-file", header])
                let arguments = [path, "--header", header] + secret
                return OverlayImage(files: [path, header], arguments: arguments, disk: plain)
            default: return OverlayImage(files: [path], arguments: [path] + secret, disk: plain)
            }
        case .partition:
            let path = try partitioned(disk, in: directory)
            try await label(path, sectors: size / 512)
            return OverlayImage(files: [path], arguments: [path, "-f", "raw", "--partition", "1"], disk: disk)
        }
    }

    /// A disk on which the first partition holds `contents`, once it has a partition table.
    private static func partitioned(_ contents: Data, in directory: TemporaryDirectory) throws -> String {
        try directory.write("disk.raw", Data(count: 1 << 20) + contents + Data(count: 1 << 20))
    }

    private static func label(_ path: String, sectors: Int) async throws {
        let script = "label: gpt\nstart=2048, size=\(sectors)\n"
        try await Tool.succeed("sfdisk", ["-q", path], input: Array(script.utf8))
    }

    /// The bytes of all files.
    func contents() throws -> [Data] { try files.map { try Data(contentsOf: URL(fileURLWithPath: $0)) } }
}
