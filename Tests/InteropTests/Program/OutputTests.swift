// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What goes to standard output and standard error, and what happens when nobody takes it.
@Suite(.fewAtATime)
struct OutputTests {
    @Test(arguments: [false, true])
    func `a client that starts its own server finds nothing but the disk on standard output`(isVerbose: Bool)
        async throws
    {
        try await SmallDisk.with { disk, image in
            let server = ["--", "[", try Program.path, "serve", image] + (isVerbose ? ["-v"] : []) + ["]"]
            let copy = disk.directory.file("copy")
            try await Tool.succeed(
                "bash", ["-c", "set -o pipefail; nbdcopy \"$@\" - | cat > \(copy)", "bash"] + server)
            let found = try File.contents(copy)
            #expect(found == disk.contents)
            let size = try await Tool.run("nbdinfo", ["--size"] + server)
            #expect(size.output == "\(disk.contents.count)\n")
            #expect(size.errors.contains("Stop with") == isVerbose, "\(size.errors)")
        }
    }

    @Test(
        arguments: [["info"], ["info", "--json"], ["audit"], ["audit", "--json"], ["--help"], ["--version"]],
        [("full", "No space left on device"), ("closed", "it is closed"), ("broken", "Broken pipe")])
    func `a report that cannot be written ends with 74 and a sentence`(
        _ command: [String], _ output: (kind: String, reason: String)
    ) async throws {
        try await SmallDisk.with { _, image in
            let script = """
                import os, subprocess, sys
                if sys.argv[1] == "full":
                    target = os.open("/dev/full", os.O_WRONLY)
                else:
                    ours, target = os.pipe()
                    os.close(ours)
                closed = lambda: os.close(1)
                sys.exit(subprocess.run(
                    sys.argv[2:], stdout=target, preexec_fn=closed if sys.argv[1] == "closed" else None).returncode)
                """
            let isAboutImage = !command[0].hasPrefix("-")
            let outcome = try await Tool.run(
                "python3", ["-c", script, output.kind, try Program.path] + command + (isAboutImage ? [image] : []))
            #expect(outcome.code == 74)
            #expect(
                outcome.errors
                    == "nbdecrypt: the report cannot be written to standard output: \(output.reason)\n")
        }
    }

    @Test func `a server whose standard output is full, or closed, says so and serves`() async throws {
        try await SmallDisk.with { disk, image in
            for redirection in ["> /dev/full", ">&-"] {
                let (copy, log) = (disk.directory.file("copy"), disk.directory.file("log"))
                try await Tool.shell(
                    """
                    \(try Program.path) serve \(image) --once --socket \(disk.directory.file("s")) \(redirection) \
                    2> \(log) & until [ -S \(disk.directory.file("s")) ]; do sleep 0.02; done
                    nbdcopy 'nbd+unix:///?socket=\(disk.directory.file("s"))' \(copy); wait $!
                    """)
                let (found, errors) = (try File.contents(copy), try File.text(log))
                #expect(found == disk.contents)
                #expect(errors.contains("warning: the address cannot be printed on standard output"), "\(errors)")
            }
        }
    }

    /// Has many clients do what the log tells of, and lets nobody read it; argument 1 is the program, 2 a socket, 3 an image.
    private static let unreadLog = """
        import os, socket, struct, subprocess, sys, time
        program, place, image = sys.argv[1:]
        def clients(count):
            for _ in range(count):
                client = socket.socket(socket.AF_UNIX)
                client.settimeout(20)
                client.connect(place)
                client.recv(18, socket.MSG_WAITALL)
                client.sendall(struct.pack(">I", 0xffffffff))
                client.close()
        """

    @Test func `a log that nobody reads holds up neither clients nor the first SIGTERM`() async throws {
        try await SmallDisk.with { disk, image in
            let script = """
                \(Self.unreadLog)
                ours, target = os.pipe()
                # Nothing goes into it any more.
                os.set_blocking(target, False)
                try:
                    while os.write(target, b"x" * 4096): pass
                except BlockingIOError:
                    os.set_blocking(target, True)
                server = subprocess.Popen([program, "serve", "-v", "-k", place, image],
                    stdout=subprocess.DEVNULL, stderr=target)
                while not os.path.exists(place): time.sleep(.02)
                clients(300)
                subprocess.run(["nbdinfo", "--size", "nbd+unix:///?socket=" + place], check=True)
                server.terminate()
                assert server.wait(30) == 0
                assert os.read(ours, 8) == b"x" * 8
                """
            let output = try await Tool.succeed(
                "python3", ["-c", script, try Program.path, disk.directory.file("s"), image])
            #expect(output == "\(disk.contents.count)\n")
        }
    }

    @Test func `what strangers cause does not fill the log, and is counted`() async throws {
        try await SmallDisk.with { disk, image in
            let log = disk.directory.file("log")
            let script = """
                \(Self.unreadLog)
                server = subprocess.Popen([program, "serve", "-v", "-k", place, image],
                    stdout=subprocess.DEVNULL, stderr=open("\(log)", "w"))
                while not os.path.exists(place): time.sleep(.02)
                begin = time.monotonic()
                clients(400)
                server.terminate()
                assert server.wait(30) == 0
                print(int(time.monotonic() - begin))
                """
            let seconds = try await Tool.succeed(
                "python3", ["-c", script, try Program.path, disk.directory.file("s"), image])
            let text = try File.text(log)
            let lines = text.split(separator: "\n").count { $0.contains("nbdecrypt: client ") }
            let allowed = 101 + (Int(seconds.dropLast()) ?? 0)
            #expect((100...allowed).contains(lines), "\(lines) lines")
            #expect(text.contains(/nbdecrypt: \d+ lines about clients were left out/))
        }
    }
}
