// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Makes LUKS containers with cryptsetup, which needs no device-mapper for AES.
struct LUKSMaker {
    let directory: TemporaryDirectory
    /// In bytes; more than the header.
    var size = 20 << 20

    /// A key derivation that costs next to nothing.
    static let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]

    /// A container whose ciphertext is noise.
    func format(
        _ name: String = "disk.luks", type: String = "luks2", passphrase: String = "correct horse",
        options: [String] = cheap
    ) async throws -> String {
        let path = try directory.write(name, noise)
        try await cryptsetup(
            ["luksFormat", "--type", type] + options + [path, "-"], passphrase)
        return path
    }

    /// Adds a keyslot.
    func addKey(
        _ passphrase: String, to path: String, _ options: [String] = cheap, existing: String = "correct horse"
    ) async throws {
        let old = try directory.write("existing-key", text: existing)
        let new = try directory.write("new-key", text: passphrase)
        try await cryptsetup(["luksAddKey", "--key-file", old] + options + [path, new])
    }

    /// Runs cryptsetup without questions.
    @discardableResult
    func cryptsetup(_ arguments: [String], _ input: String = "") async throws -> String {
        try await Tool.succeed("cryptsetup", ["--batch-mode"] + arguments, input: Array(input.utf8))
    }

    /// Runs Python that changes the `metadata` of a LUKS2 header, and stores it in both copies.
    func edit(_ path: String, _ code: String) async throws {
        // Debian's own Python, whose packages are known; others may stand before it on PATH.
        try await Tool.succeed("/usr/bin/python3", [Program.helper("luks2_edit.py"), path, code])
    }

    /// A LUKS1 container with the contents of `plain`, by qemu-img, which measures the processor and fails on a busy machine.
    static func qemu(_ plain: String, _ path: String, passphrase file: String) async throws {
        let arguments = [
            "convert", "-q", "-f", "raw", "-O", "luks", "--object", "secret,id=s,file=\(file)", "-o",
            "key-secret=s,iter-time=10", plain, path,
        ]
        for _ in 1..<200 {
            let outcome = try await Tool.run("qemu-img", arguments)
            if outcome.code == 0 { return }
            guard outcome.errors.contains("accurate CPU usage") else { throw Tool.Failed(outcome) }
        }
        try await Tool.succeed("qemu-img", arguments)
    }

    private var noise: Data {
        DiskContents(mark: 0x4C).bytes(at: 0, count: size, .noise)
    }
}
