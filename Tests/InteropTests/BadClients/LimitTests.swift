// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// How long and how many clients may stay.
@Suite(.fewAtATime)
struct LimitTests {
    @Test func `clients that do not finish the negotiation are sent away after 10 s; those that have may be idle`()
        async throws
    {
        try await run(
            """
            import time
            start = time.monotonic()
            idle = negotiated()
            silent = Client(PLACE)
            silent.receive(18)
            greedy = greeted()
            dripping = greeted()
            data = struct.pack(">QII", nbd.IHAVEOPT, nbd.GO, 60000)
            closed = set()
            while time.monotonic() < start + 14 and len(closed) < 3:
                time.sleep(0.5)
                try:
                    dripping.send(data[:1] or b"x")
                    data = data[1:]
                except OSError:
                    closed.add("dripping")
                for name, client in [("silent", silent), ("greedy", greedy)]:
                    client.socket.setblocking(False)
                    try:
                        if client.socket.recv(1) == b"":
                            closed.add(name)
                    except BlockingIOError:
                        pass
                if time.monotonic() < start + 8:
                    expect(not closed, closed)
            expect(len(closed) == 3, closed)
            expect_alive(idle)
            """)
    }

    @Test func `with --max-connections the oldest client that has not chosen an export makes room; chosen ones stay`()
        async throws
    {
        try await run(
            """
            chosen = [negotiated(), negotiated()]
            waiting = [greeted(), greeted()]
            third = negotiated()
            expect(waiting[0].is_closed(), "the oldest made room")
            fourth = negotiated()
            expect(waiting[1].is_closed(), "the next made room")
            try:
                negotiated()
                raise AssertionError("a fifth client came in")
            except (EOFError, OSError):
                pass
            for client in chosen + [third, fourth]:
                expect_alive(client)
            chosen[0].close()
            import time
            for attempt in range(1000):
                try:
                    expect_alive(negotiated())
                    break
                except (EOFError, OSError):
                    # The server has not seen yet that a place is free.
                    time.sleep(0.02)
            else:
                raise AssertionError("the place of a client that has gone is not free")
            """, ["--max-connections", "4"])
    }

    @Test func `a client that is not read from is not read ahead for`() async throws {
        // All of 64 MiB of requests cannot be taken: the server stops receiving when replies wait.
        try await run(
            """
            client = negotiated()
            client.socket.settimeout(2)
            request = struct.pack(">IHHQQI", nbd.REQUEST_MAGIC, 0, nbd.READ, 1, 0, 512) * 1000
            try:
                for sent in range(64 * MIB // len(request)):
                    client.send(request)
                raise AssertionError("the server took 64 MiB of requests whose replies nobody reads")
            except TimeoutError:
                pass
            expect_alive(negotiated())
            """)
    }

    /// Runs lines of Python against a server of a small disk.
    private func run(_ lines: String, _ options: [String] = []) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        try await ServerUnderTest.run(
            ["serve", "-f", "raw", try disk.raw()] + disk.socket + options, in: directory
        ) { server in
            let script = "from bad_clients import *\nfrom bad_clients import nbd, struct\n" + lines
            try await Tool.succeed(
                "python3", ["-c", script, directory.file("s")], environment: ["PYTHONPATH": Program.helper("")])
            let highest = try server.residentMemory(highest: true)
            #expect(highest < 64 << 20, "\(highest) bytes")
        }
    }
}
