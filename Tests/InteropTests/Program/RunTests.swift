// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `--run`
@Suite(.fewAtATime)
struct RunTests {
    @Test func `the command knows the URI and the socket, or the port`() async throws {
        try await SmallDisk.with { disk, image in
            let unix = try await run(image, disk.socket, "echo \"$uri|$unixsocket|${port-none}\"")
            #expect(unix.output == "nbd+unix:///?socket=\(disk.directory.file("s"))|\(disk.directory.file("s"))|none\n")
            let tcp = try await run(image, ["--port", "0"], "echo \"$uri $port ${unixsocket-none}\"")
            let words = tcp.output.split(whereSeparator: \.isWhitespace)
            #expect(words.count == 3 && words[0] == "nbd://127.0.0.1:\(words[1])/" && words[2] == "none")
            let named = try await run(image, ["--export-name", "a b"], "echo \"$uri\"; test -S \"$unixsocket\"")
            #expect(named.output.hasPrefix("nbd+unix:///a%20b?socket="))
        }
    }

    @Test func `the command copies the disk, and its end is the server's end`() async throws {
        try await SmallDisk.with { disk, image in
            let copy = disk.directory.file("copy.raw")
            let outcome = try await run(image, [], "nbdcopy \"$uri\" \(copy); dirname \"$unixsocket\"")
            #expect(outcome.code == 0)
            let found = try File.contents(copy)
            #expect(found == disk.contents)
            let parent = outcome.output.trimmingCharacters(in: .whitespacesAndNewlines)
            #expect(parent.contains("nbdecrypt-") && !File.exists(parent), "the private directory is gone")
        }
    }

    @Test(
        arguments: [
            ("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137),
            ("kill -INT $$", 130), ("kill -HUP $$", 129), ("no-such-program-anywhere", 127),
        ] as [(String, Int32)])
    func `the command's exit status is the program's; a signal gives 128 and its number`(
        _ command: String, _ status: Int32
    ) async throws {
        try await SmallDisk.with { disk, image in
            let outcome = try await run(image, disk.socket, command)
            #expect(outcome.code == status, "\(outcome.errors)")
            #expect(!File.exists(disk.directory.file("s")))
        }
    }

    @Test func `standard output is the command's alone, and standard input is the command's too`() async throws {
        try await SmallDisk.with { disk, image in
            let outcome = try await Program.run(
                ["serve", image, "--run", "cat; echo done; echo problem >&2"] + disk.socket, input: Array("text\n".utf8)
            )
            #expect(outcome.output == "text\ndone\n")
            #expect(outcome.errors.contains("problem\n"))
        }
    }

    @Test func `the command starts with signals, descriptors and variables as any other`() async throws {
        try await SmallDisk.with { disk, image in
            // A shell changes its own signals while it waits, so its child is looked at.
            let outcome = try await run(
                image, disk.socket,
                "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/$$/fd; env | grep -c ^LISTEN_ || true")
            #expect(outcome.output.contains(/SigBlk:\s+0+\n/), "no signal is blocked: \(outcome.output)")
            let ignored = outcome.output.firstMatch(of: /SigIgn:\s+([0-9a-f]+)\n/).flatMap { UInt64($0.1, radix: 16) }
            // Those above 31 are for real-time use and the C library.
            #expect(ignored.map { $0 & 0x7FFF_FFFF } == 0, "no signal is ignored: \(outcome.output)")
            #expect(outcome.output.hasSuffix("\n0\n1\n2\n0\n"), "no other descriptor is open: \(outcome.output)")
        }
    }

    @Test func `the command cannot read the passphrase from the descriptor that it came from`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.encrypted("abc")
        let line = "exec \(try Program.path) serve \(image) --passphrase-fd 7 --run 'ls /proc/$$/fd' 7< <(echo abc)"
        let outcome = try await Tool.run("/bin/bash", ["-c", line])
        #expect(outcome.code == 0 && outcome.output == "0\n1\n2\n", "\(outcome.output)\(outcome.errors)")
    }

    @Test(arguments: ["TERM", "INT"])
    func `SIGTERM ends the command, and its status is the program's`(_ signal: String) async throws {
        try await SmallDisk.with { disk, image in
            let line = """
                \(try Program.path) serve \(image) --socket \(disk.directory.file("s")) \
                --run 'touch \(disk.directory.file("ready")); exec sleep 50' & \
                pid=$!; until [ -e \(disk.directory.file("ready")) ]; do sleep 0.02; done; \
                kill -\(signal) $pid; set +e; wait $pid; echo $?; pgrep -f '^sleep 50$' -P $pid; test -e \(disk.directory.file("s")); echo $?
                """
            // Bash starts background commands with SIGINT ignored unless job control is on.
            let output = try await Tool.shell("set -m; " + line)
            #expect(output == "143\n1\n")
        }
    }

    @Test func `the command does not run when the passphrase is wrong`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.encrypted("right")
        let file = try directory.write("p", text: "wrong")
        try await Program.expectRefusal(
            ["serve", image, "--passphrase-file", file, "--run", "touch \(directory.file("ran"))"] + disk.socket,
            status: 77, saying: "does not fit")
        #expect(!File.exists(directory.file("ran")))
    }

    private func run(_ image: String, _ place: [String], _ command: String) async throws -> Tool.Outcome {
        try await Program.run(["serve", image] + place + ["--run", command])
    }
}
