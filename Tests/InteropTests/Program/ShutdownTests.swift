// SPDX-License-Identifier: Apache-2.0

import Foundation
import Subprocess
import Testing

/// How the server ends, and what it leaves behind.
@Suite(.fewAtATime)
struct ShutdownTests {
    @Test(arguments: [15, 2, 1] as [Int32])
    func `SIGTERM, SIGINT and SIGHUP end it with status 0 and remove socket and pid file`(_ number: Int32) async throws
    {
        try await SmallDisk.with { disk, image in
            let pidFile = disk.directory.file("pid")
            try await ServerUnderTest.run(
                ["serve", image, "--pid-file", pidFile] + disk.socket, ending: .signal(Signal(rawValue: number)),
                in: disk.directory
            ) { server in
                let text = try File.text(pidFile)
                #expect(text == "\(server.processIdentifier)\n")
                try server.expectContents(disk.contents)
            }
            #expect(!File.exists(pidFile))
        }
    }

    @Test func `a second signal does no harm and does not hold it up`() async throws {
        try await SmallDisk.with { disk, image in
            let outcome = try await ServerUnderTest.run(
                ["serve", image] + disk.socket, ending: .byItself, in: disk.directory
            ) { server in
                let client = try LibNBDClient(server.uri)
                #expect(client.size == disk.contents.count)
                try await Tool.succeed("kill", ["-TERM", "\(server.processIdentifier)"])
                try await Tool.succeed("kill", ["-TERM", "\(server.processIdentifier)"])
            }
            #expect(outcome.code == 0 || outcome.code == 143)
        }
    }

    @Test func `the pid file of an earlier run is replaced`() async throws {
        try await SmallDisk.with { disk, image in
            let pidFile = try disk.directory.write("pid", text: "123456789\n")
            try await ServerUnderTest.run(
                ["serve", image, "--pid-file", pidFile] + disk.socket, in: disk.directory
            ) { server in
                let text = try File.text(pidFile)
                #expect(text == "\(server.processIdentifier)\n")
            }
            #expect(!File.exists(pidFile))
        }
    }

    @Test
    func `the pid file of a server that has died is gone before keys are derived, and comes back when it listens`()
        async throws
    {
        try await SmallDisk.with { disk, _ in
            let image = try await disk.encrypted()
            let (pidFile, fifo) = (disk.directory.file("pid"), disk.directory.file("fifo"))
            let key = try disk.directory.write("key", text: "correct horse battery staple")
            try await Tool.shell(
                """
                cd \(disk.directory.path); mkfifo fifo
                start() { \(try Program.path) serve \(image) --socket s --pid-file pid "$@" > /dev/null & }
                start --passphrase-file key; first=$!
                until [ -s pid ]; do sleep 0.02; done
                [ "$(stat -c %a pid)" = 644 ] && [ "$(cat pid)" = $first ] && [ "$(ls pid*)" = pid ]
                kill -KILL $first; wait $first || true; [ -s pid ]
                start --passphrase-file fifo; second=$!
                # It waits for the passphrase.
                exec 9> fifo
                [ ! -e pid ]
                cat key >&9; exec 9>&-
                until [ -e pid ]; do sleep 0.02; done
                [ "$(cat pid)" = $second ]
                nbdinfo --size 'nbd+unix:///?socket=s' > /dev/null
                kill $second; wait $second; [ ! -e pid ]
                """)
            #expect(!File.exists(pidFile) && File.exists(fifo) && File.exists(key))
        }
    }

    @Test func `the pid file of a server that runs is left to it`() async throws {
        try await SmallDisk.with { disk, image in
            let pidFile = disk.directory.file("pid")
            try await ServerUnderTest.run(
                ["serve", image, "--pid-file", pidFile] + disk.socket, in: disk.directory
            ) { server in
                try await Program.expectRefusal(
                    ["serve", image, "--pid-file", pidFile, "--socket", disk.directory.file("s2")], status: 66,
                    saying: "a server that runs (process \(server.processIdentifier))")
                let text = try File.text(pidFile)
                #expect(text == "\(server.processIdentifier)\n")
                // What has taken its place meanwhile is another's.
                try FileManager.default.removeItem(atPath: pidFile)
                try disk.directory.write("pid", text: "1\n")
            }
            let text = try File.text(pidFile)
            #expect(text == "1\n")
        }
    }

    @Test(arguments: [true, false])
    func `a pid file is not written through a symbolic link`(isDangling: Bool) async throws {
        try await SmallDisk.with { disk, image in
            let (target, link) = (disk.directory.file("target"), disk.directory.file("pid"))
            if !isDangling { try disk.directory.write("target", text: "12\n") }
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: target)
            try await Program.expectRefusal(
                ["serve", image, "--pid-file", link] + disk.socket, status: 64, saying: "is a symbolic link")
            #expect(isDangling ? !File.exists(target) : try File.text(target) == "12\n")
        }
    }

    @Test func `a pid file is never written over anything else, the image least of all`() async throws {
        try await SmallDisk.with { disk, image in
            let other = try disk.directory.write("notes", text: "123 green bottles\n")
            for file in [image, other, disk.directory.file("."), "/dev/null"] {
                let before = try? File.contents(file)
                let outcome = try await Program.run(["serve", image, "--pid-file", file] + disk.socket)
                #expect(outcome.code == 64 || outcome.code == 66, "\(outcome.errors)")
                #expect(before == (try? File.contents(file)))
            }
            #expect(!File.exists(disk.directory.file("s")))
        }
    }

    @Test(arguments: [15, 2])
    func `SIGTERM and SIGINT while a passphrase is awaited from a pipe end it and leave nothing`(_ signal: Int)
        async throws
    {
        try await SmallDisk.with { disk, _ in
            let image = try await disk.encrypted()
            let script = """
                cd "$1" && mkfifo fifo && exec 9<>fifo
                "$2" serve "$3" --passphrase-file fifo --socket s & child=$!
                # Once from the shell, and once opened by the program.
                until [ "$(ls -l /proc/$child/fd 2>/dev/null | grep -c fifo)" -ge 2 ]; do sleep 0.05; done
                kill -\(signal) $child; wait $child; echo $?; ls s 2>/dev/null || echo gone
                """
            let output = try await Tool.succeed(
                "bash", ["-c", script, "bash", disk.directory.path, Program.path, image])
            #expect(output == "\(128 + signal)\ngone\n")
        }
    }

    @Test func `a pid file that cannot be written is refused with 66, and no socket stays`() async throws {
        try await SmallDisk.with { disk, image in
            try await Program.expectRefusal(
                ["serve", image, "--pid-file", disk.directory.file("none/pid")] + disk.socket, status: 66,
                saying: "pid file", "No such file")
            #expect(!File.exists(disk.directory.file("s")))
        }
    }

    @Test func `a refused image leaves neither socket nor pid file, nor a private directory`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("image", text: "QFI\u{0}")
        for place in [["--socket", directory.file("s")], []] {
            let outcome = try await Program.run(
                ["serve", image, "--pid-file", directory.file("pid")] + place,
                environment: ["TMPDIR": directory.path, "XDG_RUNTIME_DIR": nil as String?])
            #expect(outcome.code == 65)
        }
        let left = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        #expect(left == ["image"])
    }

    @Test(arguments: [false, true])
    func `idle clients do not hold up the end`(isNegotiated: Bool) async throws {
        try await SmallDisk.with { disk, image in
            let script = """
                import os, socket, struct, sys, time
                client = socket.socket(socket.AF_UNIX)
                client.connect("\(disk.directory.file("s"))")
                client.recv(18)
                if \(isNegotiated ? "True" : "False"):
                    client.sendall(struct.pack(">IQII", 3, 0x49484156454F5054, 1, 0))
                    client.recv(10)
                open("\(disk.directory.file("ready"))", "w")
                # It does not hang up: the server ends first.
                while os.path.exists("/proc/" + sys.argv[1]): time.sleep(0.01)
                """
            var start = ContinuousClock.now
            try await withThrowingTaskGroup(of: Void.self) { group in
                try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { server in
                    group.addTask {
                        try await Tool.succeed("python3", ["-c", script, "\(server.processIdentifier)"])
                    }
                    try await Deadline.wait(for: "a client") { File.exists(disk.directory.file("ready")) ? () : nil }
                    start = ContinuousClock.now
                }
                try await group.waitForAll()
            }
            #expect(ContinuousClock.now - start < .seconds(3))
        }
    }

    @Test func `a client that has said good-bye, or has just gone, does not hold up the end`() async throws {
        try await SmallDisk.with { disk, image in
            var start = ContinuousClock.now
            try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { server in
                for _ in 0..<8 { try server.expectContents(disk.contents) }
                for _ in 0..<4 {
                    try await Tool.succeed("qemu-io", ["-r", "-f", "raw", server.uri, "-c", "read 0 512"])
                }
                start = ContinuousClock.now
            }
            #expect(ContinuousClock.now - start < .seconds(3))
        }
    }

    @Test func `a reply that is under way arrives whole after SIGTERM`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let contents = DiskContents(mark: 2).bytes(at: 0, count: 24 << 20, .plain)
        let image = try directory.write("disk.raw", contents)
        let copy = directory.file("copy")
        try await withThrowingTaskGroup(of: Void.self) { group in
            // The helper sends SIGTERM itself, in the middle of the reply.
            let outcome = try await ServerUnderTest.run(
                ["serve", "-f", "raw", image, "--socket", directory.file("s")], ending: .byItself, in: directory
            ) { server in
                let arguments = [
                    Program.helper("slow_reader.py"), directory.file("s"), "\(contents.count)", copy,
                    "\(server.processIdentifier)",
                ]
                group.addTask { try await Tool.succeed("python3", arguments) }
                try await Deadline.wait(for: "the end of the helper") { File.exists(copy) ? () : nil }
            }
            try await group.waitForAll()
            #expect(outcome.code == 0 && !File.exists(directory.file("s")), "\(outcome.errors)")
        }
        let found = try File.contents(copy)
        #expect(Difference.describe(found, contents) == nil)
    }
}
