// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// QEMU's image locks: nobody writes to an image that is served, and none is served that somebody writes to.
@Suite(.fewAtATime)
struct LockTests {
    @Test(arguments: ["qcow2", "raw"])
    func `QEMU can read an image that is served, but not write to it`(_ format: String) async throws {
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

    @Test func `two servers can read the same image`() async throws {
        try await withImage("qcow2") { disk, image, _ in
            try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { _ in
                let second = ["serve", image, "--socket", disk.directory.file("s2")]
                try await ServerUnderTest.run(second, in: disk.directory) { server in
                    try server.expectContents(disk.contents)
                }
            }
        }
    }

    @Test(arguments: ["qcow2", "raw"])
    func `an image that QEMU writes to is refused with 66, until --force-share is given`(_ format: String) async throws
    {
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

    @Test func `an image that QEMU only reads is served`() async throws {
        try await withImage("qcow2") { disk, image, _ in
            try await whileQEMUServes(["-r", "-f", "qcow2", image], disk) {
                try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { server in
                    try server.expectContents(disk.contents)
                }
            }
        }
    }

    @Test func `with --force-share QEMU can write to the image`() async throws {
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

    @Test func `it is said who uses an image: QEMU, a program with other locks, or this one twice`() async throws {
        try await withImage("raw") { disk, image, arguments in
            try await whileQEMUServes(["-f", "raw", image], disk) {
                let pid = try File.text(disk.directory.file("qemu-nbd.pid")).trimmingCharacters(in: .newlines)
                for options in [[], ["--writable"]] {
                    try await Program.expectRefusal(
                        ["serve"] + arguments + options + disk.socket, status: 66, saying: "(qemu-nbd, process \(pid))")
                }
            }
            // Locks that exclude those of readers, too: the whole file, as many programs do.
            let script = """
                import fcntl, os, subprocess, sys
                file = open(sys.argv[1], "r+")
                fcntl.lockf(file, fcntl.LOCK_EX)
                for option in [[], ["--writable"]]:
                    end = subprocess.run(sys.argv[2:] + option, capture_output=True, text=True)
                    who = f"(python3, process {os.getpid()})"
                    assert end.returncode == 66 and who in end.stderr, (end.returncode, end.stderr)
                subprocess.run(sys.argv[2:] + ["--force-share"], check=True)
                """
            try await Tool.succeed(
                "python3", ["-c", script, image, Program.path, "serve"] + arguments + disk.socket + ["--run", "true"])
            try await Program.expectRefusal(
                ["serve"] + arguments + [image, "--writable"] + disk.socket, status: 66, saying: "named twice")
        }
    }

    @Test(arguments: [("ENOLCK", true), ("ENOSYS", true), ("EOPNOTSUPP", true), ("EINVAL", true), ("EIO", false)])
    func `without locks readers are warned, and writers refused until they ask for it; other failures are errors`(
        _ error: String, isUnlocked: Bool
    ) async throws {
        try await withImage("raw") { disk, image, arguments in
            // A file system that knows no locks needs a kernel: here the C library fails as that does.
            let library = disk.directory.file("locks.so")
            let source = try disk.directory.write("locks.c", text: Self.failingLocks)
            try await Tool.succeed("clang", ["-shared", "-fPIC", "-DERROR=\(error)", source, "-o", library])
            func serve(_ options: String...) async throws -> Tool.Outcome {
                try await Program.run(
                    ["serve"] + arguments + disk.socket + options + ["--run", "nbdinfo --size $uri"],
                    environment: ["LD_PRELOAD": library])
            }
            let (reader, writer) = (try await serve(), try await serve("--writable"))
            let unlocked = try await serve("--writable", "--allow-unlocked")
            let sharing = try await serve("--force-share")
            #expect(sharing.code == 0)
            let runs: [(Tool.Outcome, Bool, String)] =
                isUnlocked
                ? [
                    (reader, true, "warning: \(image): the file system knows no locks"),
                    (writer, false, "add --allow-unlocked"),
                    (unlocked, true, "warning: \(image): the file system knows no locks"),
                ]
                : [
                    (reader, false, "add --force-share"), (writer, false, "its locks cannot be taken"),
                    (unlocked, false, "Input/output error"),
                ]
            for (outcome, isServed, part) in runs {
                #expect(outcome.code == (isServed ? 0 : 66), "\(outcome.errors)")
                #expect(outcome.output == (isServed ? "\(disk.contents.count)\n" : ""))
                #expect(outcome.errors.contains(part), "\(outcome.errors)")
            }
        }
    }

    private static let failingLocks = """
        #define _GNU_SOURCE
        #include <errno.h>
        #include <fcntl.h>
        #include <stdarg.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        int fcntl64(int file, int command, ...) {
            va_list list;
            va_start(list, command);
            long argument = va_arg(list, long);
            va_end(list);
            if (command == F_OFD_SETLK || command == F_OFD_GETLK) {
                errno = ERROR;
                return -1;
            }
            return (int)syscall(SYS_fcntl, file, command, argument);
        }
        int fcntl(int, int, ...) __attribute__((alias("fcntl64")));

        """

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
