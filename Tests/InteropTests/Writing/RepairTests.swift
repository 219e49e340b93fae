// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `serve --writable --repair` of images that QEMU left behind when it was killed.
@Suite(.fewAtATime)
struct RepairTests {
    /// Gives `body` an image whose dirty bit is set, and a socket.
    private func withDirtyImage(
        _ body: (_ image: String, _ serve: (String...) async throws -> Tool.Outcome) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = directory.file("image.qcow2")
        try await Tool.succeed("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", image, "64M"])
        _ = try await Tool.run(
            "qemu-io", ["-f", "qcow2", "-c", "write -P 5 0 3M", "-c", "flush", "-c", "sigraise 9", image])
        try await body(image) { options in
            try await Program.run(
                ["serve", image, "--socket", directory.file("s")] + options + [
                    "--run", "qemu-io -f raw -c 'read -P 5 0 3M' -c 'write -P 6 2M 8M' \"$uri\"",
                ])
        }
    }

    @Test func `a dirty image is refused with the remedy, repaired, and written to`() async throws {
        try await withDirtyImage { image, serve in
            let before = try File.contents(image)
            let refused = try await serve("--writable")
            #expect(refused.code != 0 && refused.errors.contains("--repair rebuilds them"), "\(refused.errors)")
            #expect(try File.contents(image) == before)
            let served = try await serve("--writable", "--repair")
            #expect(served.code == 0, "\(served.errors)")
            #expect(served.errors.contains("its reference counts have been rebuilt: "), "\(served.errors)")
            #expect(!served.output.contains("failed"), "\(served.output)")
            try await Tool.succeed("qemu-img", ["check", "-q", image])
            try await Tool.succeed(
                "qemu-io", ["-f", "qcow2", "-r", "-c", "read -P 5 0 2M", "-c", "read -P 6 2M 8M", image])
            let again = try await serve("--writable", "--repair")
            #expect(!again.errors.contains("rebuilt") && !again.errors.contains("nothing was wrong"))
        }
    }

    @Test func `a corrupt image is refused all the same, and reading needs no repair`() async throws {
        try await withDirtyImage { image, serve in
            try await Tool.shell("printf '\\003' | dd of=\(image) bs=1 seek=79 conv=notrunc status=none")
            let before = try File.contents(image)
            let refused = try await serve("--writable", "--repair")
            #expect(refused.code != 0 && refused.errors.contains("corrupt bit"), "\(refused.errors)")
            #expect(try File.contents(image) == before)
            let read = try await serve("--repair")
            #expect(read.code == 64 && read.errors.contains("--repair is for --writable"), "\(read.errors)")
        }
    }
}
