// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Listening on vsock. Whether clients can connect is for a virtual machine to show: see ``VirtualMachineVsockTests``.
@Suite(.fewAtATime)
struct VsockTests {
    @Test func `the printed address is the number by which the other side knows this machine`() async throws {
        try await SmallDisk.with { disk, image in
            let own = try await guestNumber()
            try await ServerUnderTest.run(
                ["serve", image, "--vsock", "0", "--insecure-plaintext"], in: disk.directory
            ) { server in
                #expect(server.uri.contains(/^nbd\+vsock:\/\/[0-9]+:[0-9]+\/$/))
                #expect(server.uri.hasPrefix("nbd+vsock://\(own ?? 2):"))
                let port = try #require(server.port)
                #expect((1024...99_999_999).contains(port))
                let sentence =
                    own.map { "The host of this virtual machine reaches it with its number, \($0)." }
                    ?? "Virtual machines of this host reach it with the number of every host, 2."
                #expect(server.instructions.contains("\n\(sentence)\n"))
                #expect(server.instructions.contains("nbdcopy -p nbd+vsock://\(own ?? 2):\(port)/ copy.raw\n"))
                #expect(!server.instructions.contains("nbd-client"), "it knows no vsock")
            }
        }
    }

    @Test func `the port is taken`() async throws {
        try await SmallDisk.with { disk, image in
            let options = ["--insecure-plaintext", "--vsock"]
            try await ServerUnderTest.run(["serve", image] + options + ["0"], in: disk.directory) { server in
                let port = try #require(server.port)
                try await Program.expectRefusal(
                    ["serve", image] + options + ["\(port)"], status: 66, saying: "vsock port \(port)", "in use",
                    "--vsock")
            }
        }
    }

    @Test func `a command beside the server has an address that works on this machine`() async throws {
        try await SmallDisk.with { disk, image in
            let outcome = try await Program.run(
                [
                    "serve", image, "--vsock", "0", "--insecure-plaintext", "--run",
                    "echo \"$uri $port ${unixsocket-no}\"",
                ])
            let words = outcome.output.split(whereSeparator: \.isWhitespace)
            #expect(words.count == 3 && words[0] == "nbd+vsock://1:\(words[1])/" && words[2] == "no")
        }
    }

    @Test func `without TLS it needs --insecure-plaintext, because all virtual machines can connect`() async throws {
        try await SmallDisk.with { disk, image in
            try await Program.expectRefusal(
                ["serve", image, "--vsock", "0"], status: 64, saying: "every virtual machine", "in the clear",
                "--tls-psk", "--insecure-plaintext")
        }
    }

    @Test func `it cannot be combined with other addresses, and clients cannot read all ports`() async throws {
        for (options, part) in [
            (["--vsock", "1", "--port", "1"], "--vsock cannot be combined"),
            (["--vsock", "1", "--socket", "s"], "--vsock cannot be combined"),
            (["--vsock", "1", "--bind", "::1"], "--vsock cannot be combined"),
            (["--vsock", "100000000"], "99999999"), (["--vsock=-1"], "--vsock"),
        ] {
            let outcome = try await Program.run(["serve", "image"] + options)
            #expect(outcome.code == 64)
            #expect(outcome.errors.contains(part), "\(outcome.errors)")
        }
    }

    /// What the kernel says is the number of this machine; nil when it is no guest.
    private func guestNumber() async throws -> UInt32? {
        let program = """
            import fcntl, struct
            with open("/dev/vsock") as device: print(*struct.unpack("I", fcntl.ioctl(device, 0x7b9, bytes(4))))
            """
        let text = try await Tool.succeed("python3", ["-c", program])
        let number = try #require(UInt32(text.trimmingCharacters(in: .whitespacesAndNewlines)))
        return number > 2 && number != .max ? number : nil
    }
}
