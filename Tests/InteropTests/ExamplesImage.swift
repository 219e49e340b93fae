// SPDX-License-Identifier: Apache-2.0

import Foundation

/// An AES-encrypted image with an ext4 file system, as the examples and the documentation want it.
struct ExamplesImage {
    /// What is in the file `letter.txt` of the file system.
    static let letter = "This line was written to an encrypted disk.\n"
    private static let passphrase = "correct horse battery staple"
    private static let size = 64 << 20

    let directory: TemporaryDirectory
    /// The image; its passphrase file has no newline, as QEMU wants it.
    let image: TestImage
    /// The passphrase in a file as an editor leaves it, with a newline.
    let passphrasePath: String
    /// The disk before it was encrypted.
    let rawPath: String

    /// Makes the image `old.qcow2`.
    ///
    /// - Parameter isPartitioned: the file system is in the first partition of an MBR instead of on the whole disk.
    init(_ directory: TemporaryDirectory, isPartitioned: Bool = false) async throws {
        self.directory = directory
        passphrasePath = try directory.write("passphrase.txt", text: Self.passphrase + "\n")
        rawPath = directory.file("disk.raw")
        let files = directory.file("files")
        try FileManager.default.createDirectory(atPath: files, withIntermediateDirectories: true)
        try directory.write("files/letter.txt", text: Self.letter)
        let offset = isPartitioned ? 1 << 20 : 0
        try await Tool.shell(
            """
            PATH=$PATH:/usr/sbin
            mke2fs -q -t ext4 -E offset=\(offset) -d \(files) \(rawPath) \((Self.size - offset) / 1024)
            truncate -s \(Self.size) \(rawPath)
            """)
        if isPartitioned {
            try await Tool.shell("echo start=2048,type=83 | PATH=$PATH:/usr/sbin sfdisk --quiet \(rawPath)")
        }
        var maker = ImageMaker(directory: directory)
        maker.passphrase = Self.passphrase
        image = try await maker.empty(ImageRecipe(isEncrypted: true, size: Self.size), name: "old.qcow2")
        try await maker.fill(image, with: try File.contents(rawPath), compressed: false)
    }

    /// Makes a LUKS2 container `disk.luks` beside it, with the same passphrase, and `random.key` for a second keyslot.
    func addContainer() async throws {
        let luks = LUKSMaker(directory: directory)
        let path = try await luks.format(passphrase: Self.passphrase)
        let key = String(decoding: DiskContents(mark: 0x4B).bytes(at: 0, count: 64, .plain), as: UTF8.self)
        try await luks.addKey(key, to: path, existing: Self.passphrase)
        try directory.write("random.key", text: key)
    }
}
