// SPDX-License-Identifier: Apache-2.0

import Subprocess
import Testing

/// What the server says when it is asked what it is doing.
@Suite(.fewAtATime)
struct StateReportTests {
    @Test func `SIGUSR1 makes it say what it and its clients are doing, without names, and it serves on`() async throws
    {
        try await SmallDisk.with { disk, image in
            let arguments = ["serve", image, "-x", "hidden-name", "--max-connections", "7"] + disk.socket
            try await ServerUnderTest.run(arguments, in: disk.directory) { server in
                let client = try LibNBDClient(server.uri)
                #expect(client.size == disk.contents.count)
                for round in 1...2 {
                    try await Tool.succeed("kill", ["-USR1", "\(server.processIdentifier)"])
                    try await Deadline.wait(seconds: 20, for: "report \(round)") {
                        let ends = try server.errors.matches(of: /state: lane 'handshakes'/)
                        return ends.count == round ? () : nil
                    }
                }
                let errors = try server.errors
                #expect(
                    errors.contains(
                        "nbdecrypt: state: 1 of 7 places are taken, 1 by clients that have chosen an export\n"))
                #expect(errors.contains("state: listener 0: accepts\n"))
                #expect(errors.contains(/state: loop 0: [a-z]+ for \d+ ms, turn \d+; \d+ pieces of work wait,/))
                #expect(errors.contains(/state: memory for replies: \d+ bytes of 17825792 are used,/))
                #expect(errors.contains("state: 1 clients that have nothing to take and ask for nothing\n"))
                #expect(!errors.contains("hidden-name") && !errors.contains(image))
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `SIGUSR1 while it waits for a passphrase is answered when it serves`() async throws {
        try await SmallDisk.with { disk, _ in
            let image = try await disk.encrypted("right")
            let script = """
                cd "$1"; mkfifo fifo; exec 9<>fifo
                "$2" serve "$3" --passphrase-file fifo --socket s > output 2> log 9>&- & child=$!
                # Before it is nbdecrypt, it is a shell that has the fifo as well.
                until [ /proc/$child/exe -ef "$2" ] && ls -l /proc/$child/fd | grep -q fifo; do sleep 0.05; done
                kill -USR1 $child
                printf right >&9; exec 9>&-
                until grep -q "state: 0 of 1024 places" log; do sleep 0.05; done
                kill $child; wait $child; echo $?
                """
            let output = try await Tool.succeed(
                "bash", ["-c", script, "bash", disk.directory.path, Program.path, image])
            #expect(output == "0\n")
        }
    }

    @Test func `the command of --run can be sent SIGUSR1`() async throws {
        try await SmallDisk.with { disk, image in
            let outcome = try await Program.run(
                ["serve", image] + disk.socket + ["--run", "trap 'exit 3' USR1; kill -USR1 $$; exit 4"])
            #expect(outcome.code == 3)
        }
    }
}
