// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What the name of an image means: a path, or something that a protocol reaches.
@Suite(.fewAtATime) struct SourceNameTests {
    /// A name, its protocol, and what to do instead.
    struct Name: Sendable, CustomTestStringConvertible {
        let text: String
        let scheme: String
        var advice = "copy the image to a file first, and name that"

        var testDescription: String { text }
    }

    static let names = [
        Name(
            text: "nbd://host/disk", scheme: "nbd",
            advice: "copy the image first: nbdcopy nbd://host/disk image, then name that file"),
        Name(text: "nbd:localhost:10809", scheme: "nbd", advice: "nbdcopy URI image"),
        Name(
            text: "nbd+unix:///?socket=/a b", scheme: "nbd+unix", advice: "nbdcopy 'nbd+unix:///?socket=/a b' image"),
        Name(text: "nbds://host/disk", scheme: "nbds", advice: "nbdcopy nbds://host/disk image"),
        Name(text: "http://host/a.qcow2", scheme: "http"), Name(text: "https://host/a.qcow2", scheme: "https"),
        Name(text: "ftp://host/a.qcow2", scheme: "ftp"), Name(text: "ssh://host/a.qcow2", scheme: "ssh"),
        Name(text: "rbd:pool/image@snapshot", scheme: "rbd"), Name(text: "iscsi://host/target/0", scheme: "iscsi"),
        Name(text: "nfs://host/a.qcow2", scheme: "nfs"), Name(text: "gluster://host/volume/a", scheme: "gluster"),
        Name(text: #"json:{"driver":"raw","file":{"driver":"file","filename":"a"}}"#, scheme: "json"),
        Name(text: "file:a.qcow2", scheme: "file", advice: "name the file or block device by its path"),
        Name(text: "file:///a.qcow2", scheme: "file", advice: "name the file or block device by its path"),
        Name(text: "host_device:/dev/sda", scheme: "host_device", advice: "name the file or block device by its path"),
        Name(text: "blkdebug::a.qcow2", scheme: "blkdebug"),
        Name(text: "unheard-of://host/a", scheme: "unheard-of"),
    ]

    @Test(arguments: names)
    func `each protocol of QEMU is refused by its name, and by each command`(name: Name) async throws {
        let says = [
            "\(name.text): this is reached by \(name.scheme), which is not read here",
            "images are opened from files and block devices",
            name.advice,
        ]
        for arguments in [["serve", name.text], ["info", name.text], ["audit", name.text]] {
            let outcome = try await Program.run(arguments)
            Program.expectRefusal(outcome, status: 66, saying: says)
            #expect(!outcome.errors.contains("No such file"))
        }
    }

    @Test func `a header and the images of a configuration are named in the same way`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("image", Data(count: 1 << 20))
        let says = "ssh://host/a: this is reached by ssh, which is not read here"
        for command in ["serve", "info", "audit"] {
            try await Program.expectRefusal([command, image, "--header", "ssh://host/a"], status: 66, saying: says)
        }
        for text in [
            #"{"images":[{"path":"ssh://host/a"}]}"#, #"{"images":[{"path":"image","header":"ssh://host/a"}]}"#,
        ] {
            let config = try directory.write("config", text: text)
            try await Program.expectRefusal(["serve", "--config", config], status: 66, saying: says)
        }
    }

    @Test func `a password is not said again`() async throws {
        for command in ["serve", "info", "audit"] {
            let outcome = try await Program.run([command, "https://user:secret@host/a"])
            Program.expectRefusal(outcome, status: 66, saying: ["https://user@host/a: this is reached by https"])
            #expect(!outcome.errors.contains("secret"))
        }
    }

    @Test(arguments: ["./a:b.img", "a:b.img", "./nbd:a", "./rbd:pool", "12:00.img"])
    func `a file with a colon in its name is opened`(name: String) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try directory.write(String(name.drop { "./".contains($0) }), Data(count: 1 << 20))
        let report = try await Tool.shell("cd \(directory.path); \(try Program.path) info -f raw \(name)")
        #expect(report.contains("1048576 bytes"), "\(report)")
        try await Program.expectRefusal(
            ["info", "\(directory.path)/none:\(name.drop { "./".contains($0) })"], status: 66, saying: "check the name")
    }

    @Test func `a file whose name is a protocol to QEMU is opened behind its directory alone`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try directory.write("rbd:a", Data(count: 1 << 20))
        let outcome = try await Tool.run(
            "/bin/bash", ["-c", "cd \(directory.path); \(try Program.path) info -f raw rbd:a"])
        Program.expectRefusal(
            outcome, status: 66,
            saying: ["rbd:a: this is reached by rbd", "a file of that name in the directory is ./rbd:a"])
    }
}
