// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation

/// A small disk with contents that are not noise, and images of it.
struct SmallDisk {
    let directory: TemporaryDirectory
    let contents = DiskContents(mark: 0x5D).bytes(at: 0, count: 1 << 20, .plain)

    init(_ directory: TemporaryDirectory) { self.directory = directory }

    /// Gives `body` a disk and an image of it, in a directory that goes afterwards.
    ///
    /// - Parameter passphrase: QEMU has encrypted the image with its bytes; nil: it is plain.
    static func with(
        passphrase: String? = nil, _ body: (SmallDisk, _ image: String) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = if let passphrase { try await disk.encrypted(passphrase) } else { try await disk.plain() }
        try await body(disk, image)
    }

    /// An image that QEMU has encrypted with the bytes of `passphrase`.
    func encrypted(_ passphrase: String = "correct horse battery staple") async throws -> String {
        var maker = ImageMaker(directory: directory)
        maker.passphrase = passphrase
        return try await maker.image(of: contents, ImageRecipe(isEncrypted: true, size: contents.count)).path
    }

    /// An image encrypted with any key of 16 bytes, which QEMU may not be able to open.
    func encrypted(key: [UInt8]) async throws -> String {
        let path = try await plain()
        try await Tool.succeed("python3", [Program.helper("encrypt_aes.py"), path, key.hexadecimal()])
        return path
    }

    /// An image that is not encrypted.
    func plain() async throws -> String {
        try await ImageMaker(directory: directory).image(of: contents, ImageRecipe(size: contents.count)).path
    }

    /// A raw file.
    func raw() throws -> String { try directory.write("disk.raw", contents) }

    /// Where to listen.
    var socket: [String] { ["--socket", directory.file("s")] }
}
