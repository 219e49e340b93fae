// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// QEMU's image locks: nobody writes to an image that is served, and none is served that somebody writes to.
@Suite("Image locks", .fourAtATime)
struct LockTests {
    @Test("QEMU can read an image that is served, but not write to it", arguments: ["qcow2", "raw"])
    func keepsWritersOut(_ format: String) async throws {
        try await withImage(format) { disk, image, arguments in
            try await ServerUnderTest.run(["serve"] + arguments + disk.socket, in: disk.directory) { server in
                let writer = try await Tool.run("qemu-io", ["-f", format, image, "-c", "write 0 512"])
                #expect(writer.code != 0 && writer.errors.contains("lock"), "\(writer.errors)")
                try await Tool.succeed("qemu-io", ["-r", "-f", format, image, "-c", "read 0 512"])
                try server.expectContents(disk.contents)
            }
            try await Tool.succeed("qemu-io", ["-f", format, image, "-c", "write 0 512"])
        }
    }

    @Test("Two servers can read the same image")
    func twoReaders() async throws {
        try await withImage("qcow2") { disk, image, _ in
            try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { _ in
                let second = ["serve", image, "--socket", disk.directory.file("s2")]
                try await ServerUnderTest.run(second, in: disk.directory) { server in
                    try server.expectContents(disk.contents)
                }
            }
        }
    }

    @Test("An image that QEMU writes to is refused with 66, until --force-share is given", arguments: ["qcow2", "raw"])
    func writtenTo(_ format: String) async throws {
        try await withImage(format) { disk, image, arguments in
            try await whileQEMUServes(["-f", format, image], disk) {
                try await Program.expectRefusal(
                    ["serve"] + arguments + disk.socket, status: 66, saying: image, "another program writes",
                    "--force-share")
                #expect(!File.exists(disk.directory.file("s")))
                let outcome = try await ServerUnderTest.run(
                    ["serve", "--force-share"] + arguments + disk.socket, in: disk.directory
                ) { server in try server.expectContents(disk.contents) }
                #expect(outcome.errors.contains("warning: without locks"))
                try await Tool.succeed(try Program.path, ["info"] + arguments)
            }
            try await ServerUnderTest.run(["serve"] + arguments + disk.socket, in: disk.directory) { server in
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test("An image that QEMU only reads is served")
    func readElsewhere() async throws {
        try await withImage("qcow2") { disk, image, _ in
            try await whileQEMUServes(["-r", "-f", "qcow2", image], disk) {
                try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { server in
                    try server.expectContents(disk.contents)
                }
            }
        }
    }

    @Test("With --force-share QEMU can write to the image")
    func forceShare() async throws {
        try await withImage("raw") { disk, image, arguments in
            try await ServerUnderTest.run(
                ["serve", "--force-share"] + arguments + disk.socket, in: disk.directory
            ) { server in
                try await Tool.succeed("qemu-io", ["-f", "raw", image, "-c", "write -P 9 0 512"])
                let client = try LibNBDClient(server.uri)
                let found = try client.read(512, at: 0)
                #expect(found == Data(repeating: 9, count: 512))
            }
        }
    }

    /// Runs qemu-nbd beside `body`.
    private func whileQEMUServes(
        _ arguments: [String], _ disk: SmallDisk, _ body: () async throws -> Void
    ) async throws {
        let pidFile = disk.directory.file("qemu-nbd.pid")
        let common = ["-k", disk.directory.file("qemu"), "--persistent", "--fork", "--pid-file", pidFile]
        // It keeps standard error open when it forks.
        try await Tool.shell(
            (["qemu-nbd"] + common + arguments).joined(separator: " ") + " 2> \(disk.directory.file("qemu.log"))")
        let result: Result<Void, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        let pid = try File.text(pidFile).trimmingCharacters(in: .whitespacesAndNewlines)
        try await Tool.shell("kill \(pid); while kill -0 \(pid) 2>/dev/null; do sleep 0.02; done")
        try result.get()
    }

    private func withImage(
        _ format: String, _ body: (SmallDisk, _ image: String, _ arguments: [String]) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = format == "raw" ? try disk.raw() : try await disk.plain()
        try await body(disk, image, ["-f", format, image])
    }
}
