// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What happens when the passphrase does not fit, and keys that QEMU cannot take.
@Suite(.fewAtATime)
struct WrongPassphraseTests {
    private static let latin1: [UInt8] = [0x70, 0xE4, 0x73, 0x73, 0x77, 0xF6, 0x72, 0x64]
    private static let utf8 = "pässwörd"

    @Test func `a wrong passphrase ends with 77 and says how to go on`() async throws {
        try await withDirectory { disk in
            let image = try await disk.encrypted("right")
            let file = try disk.directory.write("p", text: "wrong")
            try await Program.expectRefusal(
                ["serve", image, "--passphrase-file", file] + disk.socket, status: 77, saying: "does not fit",
                "noise", "check the spelling", "--key-file", "--no-passphrase-check")
            #expect(!File.exists(disk.directory.file("s")), "no socket is left behind")
        }
    }

    @Test func `--no-passphrase-check serves what a wrong passphrase gives, which is what QEMU reads with it`()
        async throws
    {
        try await withDirectory { disk in
            var image = TestImage(path: try await disk.encrypted("right"))
            image.passphrasePath = try disk.directory.write("p", text: "wrong")
            let noise = try await image.oracle(in: disk.directory)
            #expect(noise != disk.contents)
            try await ServerUnderTest.run(
                image.serveArguments + ["--no-passphrase-check"] + disk.socket, in: disk.directory
            ) { server in try server.expectContents(noise) }
        }
    }

    @Test func `a passphrase whose image was made with a newline at its end is recognised, and the advice works`()
        async throws
    {
        try await withDirectory { disk in
            let image = try await disk.encrypted("secret\n")
            let file = try disk.directory.write("p", text: "secret\n")
            try await Program.expectRefusal(
                ["serve", image, "--passphrase-file", file] + disk.socket, status: 77,
                saying: "it fits with a line feed at its end", "--key-file")
            try await ServerUnderTest.run(["serve", image, "--key-file", file] + disk.socket, in: disk.directory) {
                server in
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `a passphrase that was typed in Latin-1 is recognised, and the advice works`() async throws {
        try await withDirectory { disk in
            let image = try await disk.encrypted(key: Self.latin1 + [UInt8](repeating: 0, count: 8))
            let file = try disk.directory.write("p", text: Self.utf8)
            try await Program.expectRefusal(
                ["serve", image, "--passphrase-file", file] + disk.socket, status: 77,
                saying: "it fits in Latin-1 instead of UTF-8", "--key-file")
            let bytes = try disk.directory.write("k", Self.latin1)
            for option in ["--key-file", "--passphrase-file"] {
                try await ServerUnderTest.run(["serve", image, option, bytes] + disk.socket, in: disk.directory) {
                    server in
                    try server.expectContents(disk.contents)
                }
            }
        }
    }

    /// What opens a container, what is given instead, and what is said of it.
    static let variants: [(right: [UInt8], given: [UInt8], words: String)] = [
        (Array("correct horse\n".utf8), Array("correct horse".utf8), "with a line feed at its end"),
        (latin1, Array(utf8.utf8), "in Latin-1 instead of UTF-8"),
        (
            Array(String(repeating: "72523b", count: 4).utf8), Array(String(repeating: "0725230b", count: 4).utf8),
            "with each of its bytes as hexadecimal digits without a leading 0"
        ),
    ]

    @Test(arguments: variants)
    func `a variant of the passphrase that opens a LUKS container is named, and the work is at most doubled`(
        _ right: [UInt8], _ given: [UInt8], _ words: String
    ) async throws {
        try await withDirectory { disk in
            let key = try disk.directory.write("key", right)
            let image = try disk.directory.write("disk.luks", Data(count: 3 << 20))
            try await Tool.succeed(
                "cryptsetup",
                ["--batch-mode", "luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", image, key])
            let file = try disk.directory.write("given", given)
            let serve = ["serve", "-vv", image, "--run", "true", "--key-file"]
            let outcome = try await Program.run(serve + [file])
            #expect(outcome.code == 77)
            #expect(
                outcome.errors.contains("but keyslot 0 opens with the key file \(file) \(words)"), "\(outcome.errors)")
            #expect(outcome.errors.contains("write exactly these bytes to a file and give --key-file FILE"))
            // One secret, and one keyslot: one variant.
            #expect(outcome.errors.matches(of: /trying keyslot/).count == 2, "\(outcome.errors)")
            let info = try await Program.run(["info", image, "--check-passphrase", "--key-file", file])
            #expect(info.code == 77 && info.output.contains("but keyslot 0 opens with it \(words)"), "\(info.output)")
            #expect(info.errors.contains("none of these opens it; but keyslot 0 opens with"), "\(info.errors)")
            // None fits: what was tried is named.
            let other = try disk.directory.write("other", text: "p\u{E9}1")
            for command in [["serve", "--run", "true"], ["info", "--check-passphrase"]] {
                let wrong = try await Program.run(command + [image, "--key-file", other])
                #expect(
                    wrong.code == 77
                        && wrong.errors.contains("keyboard layout (tried as well: in Latin-1 instead of UTF-8)"),
                    "\(wrong.errors)")
            }
            #expect(try await Program.run(serve + [key]).code == 0)
            // A secret that fits costs nothing more.
            let both = try await Program.run(serve + [file, "--key-file", key])
            #expect(both.code == 0 && both.errors.matches(of: /trying keyslot/).count == 2, "\(both.errors)")
        }
    }

    @Test func `a passphrase in Latin-1 for an image made in UTF-8 is recognised`() async throws {
        try await withDirectory { disk in
            let image = try await disk.encrypted(Self.utf8)
            let file = try disk.directory.write("p", Self.latin1)
            try await Program.expectRefusal(
                ["serve", image, "--passphrase-file", file] + disk.socket, status: 77,
                saying: "it fits in UTF-8 instead of Latin-1")
            let info = try await Program.run(["info", image, "--check-passphrase", "--passphrase-file", file])
            #expect(
                info.code == 77 && info.output.contains("but it fits in UTF-8 instead of Latin-1"), "\(info.output)")
            // All variants that were tried are named.
            let other = try disk.directory.write("other", text: "p\u{E9}1")
            for command in [["serve", "--run", "true"], ["info", "--check-passphrase"]] {
                let wrong = try await Program.run(command + [image, "--passphrase-file", other])
                #expect(wrong.code == 77, "\(wrong.errors)")
                for words in [
                    "in Latin-1 instead of UTF-8", "with a line feed at its end", "(NFD)",
                    "with what a French keyboard types in place of digits", "--no-passphrase-check",
                ] { #expect(wrong.errors.contains(words), "\(words): \(wrong.errors)") }
            }
        }
    }

    @Test func `an image with a key that is no text, which QEMU cannot open, is served with --raw-key-file`()
        async throws
    {
        try await withDirectory { disk in
            let key: [UInt8] = [
                0xFF, 0xFE, 0x00, 0x80, 0xC0, 0x0A, 0x0D, 0x00, 0x01, 0x7F, 0xF5, 0xFF, 0xED, 0xA0, 0x80, 0x0A,
            ]
            var image = TestImage(path: try await disk.encrypted(key: key))
            let file = try disk.directory.write("k", key)
            try await ServerUnderTest.run(
                ["serve", image.path, "--raw-key-file", file] + disk.socket, in: disk.directory
            ) { server in try server.expectContents(disk.contents) }
            image.passphrasePath = file
            let refused = try await Tool.run(
                "qemu-io", ["-r"] + image.objectArguments + ["--image-opts", image.options, "-c", "read 0 512"])
            #expect(refused.errors.contains("not valid UTF-8"), "QEMU: \(refused.errors)")
            // As a passphrase the NUL would end it after two bytes.
            try await Program.expectRefusal(
                ["serve", image.path, "--key-file", file] + disk.socket, status: 77, saying: "does not fit")
        }
    }

    @Test func `the helper that encrypts for these tests does it as QEMU does`() async throws {
        try await withDirectory { disk in
            var image = TestImage(path: try await disk.encrypted(key: Array("0123456789abcdef".utf8)))
            image.passphrasePath = try disk.directory.write("p", text: "0123456789abcdef")
            let found = try await image.oracle(in: disk.directory)
            #expect(found == disk.contents)
        }
    }

    @Test func `an image that stores too little to judge is served with a warning`() async throws {
        try await withDirectory { disk in
            let maker = ImageMaker(directory: disk.directory)
            let image = try await maker.empty(ImageRecipe(isEncrypted: true, size: 1 << 20))
            let wrong = try disk.directory.write("p", text: "wrong")
            let outcome = try await ServerUnderTest.run(
                ["serve", image.path, "--passphrase-file", wrong] + disk.socket, in: disk.directory
            ) { server in try server.expectContents(Data(count: 1 << 20)) }
            #expect(outcome.errors.contains("warning: the passphrase cannot be checked"))
        }
    }

    @Test func `a file system is recognised by name`() async throws {
        try await withDirectory { disk in
            let raw = disk.directory.file("ext4.raw")
            try await Tool.shell("truncate -s 8M \(raw) && mkfs.ext4 -q -F \(raw)")
            let contents = try File.contents(raw)
            let maker = ImageMaker(directory: disk.directory)
            let image = try await maker.image(of: contents, ImageRecipe(isEncrypted: true, size: 8 << 20))
            let outcome = try await ServerUnderTest.run(image.serveArguments + disk.socket, in: disk.directory) {
                server in
                try server.expectContents(contents)
            }
            #expect(outcome.errors.contains("the passphrase fits: ext4"))
        }
    }

    private func withDirectory(_ body: (SmallDisk) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await body(SmallDisk(directory))
    }
}
