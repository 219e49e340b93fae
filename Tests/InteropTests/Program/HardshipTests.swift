// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Surroundings that are not as they should be.
@Suite(.fewAtATime)
struct HardshipTests {
    @Test(arguments: ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
    func `closed standard streams do no harm`(_ redirection: String) async throws {
        try await SmallDisk.with { disk, image in
            let copy = disk.directory.file("copy.raw")
            let line = """
                \(try Program.path) serve -vv \(image) --socket \(disk.directory.file("s")) \(redirection) & pid=$!
                until [ -S \(disk.directory.file("s")) ]; do sleep 0.02; done
                for i in 1 2 3 4 5; do nbdcopy 'nbd+unix:///?socket=\(disk.directory.file("s"))' \(copy); done
                kill $pid; wait $pid
                """
            try await Tool.shell(line)
            let found = try File.contents(copy)
            #expect(found == disk.contents)
        }
    }

    @Test func `a reader of the printed commands who goes away does not end the server`() async throws {
        try await SmallDisk.with { disk, image in
            let log = disk.directory.file("log")
            let line = """
                { \(try Program.path) serve -vv \(image) --once --socket \(disk.directory.file("s")) 2>&1; \
                echo $? > \(disk.directory.file("status")); } | head -n 1 > \(log) &
                until [ -s \(log) -a -S \(disk.directory.file("s")) ]; do sleep 0.02; done
                nbdcopy 'nbd+unix:///?socket=\(disk.directory.file("s"))' \(disk.directory.file("copy.raw")); wait
                """
            try await Tool.shell(line)
            let found = try File.contents(disk.directory.file("copy.raw"))
            #expect(found == disk.contents)
            let status = try File.text(disk.directory.file("status"))
            #expect(status == "0\n")
        }
    }

    @Test(arguments: ["raw", "qcow2"])
    func `an image that becomes shorter while it is served gives EIO where nothing is left`(_ format: String)
        async throws
    {
        try await SmallDisk.with { disk, qcow2 in
            let image = format == "raw" ? try disk.raw() : qcow2
            let arguments = ["serve", "-f", format, image] + disk.socket
            try await ServerUnderTest.run(arguments, in: disk.directory) { server in
                let client = try LibNBDClient(server.uri)
                let start = try client.read(1000, at: 0)
                #expect(start == disk.contents.prefix(1000))
                try Qcow2Editor(path: image).truncate(to: Int(try File.size(image)) - 500_000)
                let error = #expect(throws: LibNBDClient.Failed.self) {
                    try client.read(100_000, at: disk.contents.count - 100_000)
                }
                #expect(error?.errorNumber == EIO)
                let again = try client.read(1000, at: 0)
                #expect(again == start)
                try await server.expectError("shorter", "outside the file")
            }
        }
    }

    @Test func `an image that is removed while it is served can still be read`() async throws {
        try await SmallDisk.with { disk, image in
            try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { server in
                try FileManager.default.removeItem(atPath: image)
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `an image behind a symbolic link, and one that may only be read, are served`() async throws {
        try await SmallDisk.with { disk, image in
            try FileManager.default.setAttributes([.posixPermissions: 0o400], ofItemAtPath: image)
            let link = disk.directory.file("link")
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: image)
            try await ServerUnderTest.run(["serve", link] + disk.socket, in: disk.directory) { server in
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `a low limit on open files turns clients away, and ends nothing`() async throws {
        try await SmallDisk.with { disk, image in
            let line = "ulimit -n 40; exec \(try Program.path) serve \(image) --socket \(disk.directory.file("s"))"
            try await ServerUnderTest.run(["-c", line], program: "/bin/sh", in: disk.directory) { server in
                try server.expectContents(disk.contents)
                let script = """
                    from bad_clients import *
                    clients = []
                    for _ in range(100):
                        client = Client(PLACE, 1)
                        try:
                            client.negotiate()
                        except EOFError:
                            # It is told at once: nobody waits for a second.
                            break
                        clients.append(client)
                    expect(20 < len(clients) < 40, len(clients))
                    expect_alive(clients[0])
                    for client in clients[:10]:
                        client.close()
                    expect_alive(clients[-1])
                    """
                try await Tool.succeed(
                    "python3", ["-c", script, disk.directory.file("s")],
                    environment: ["PYTHONPATH": Program.helper("")])
                try server.expectContents(disk.contents)
            }
        }
    }
}
