// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Snapshot tables that are damaged, or made to cost time and memory.
@Suite(.fewAtATime)
struct SnapshotFaultTests {
    /// A table, and what is said of it.
    struct Fault: Sendable, CustomStringConvertible {
        let description: String
        let says: String
        let change: @Sendable (inout HostileImage) -> Void

        static let all = [
            Fault(description: "beyond the file", says: "entry 1 at byte") { $0.snapshotCount = 2 },
            Fault(description: "cut off", says: "entry 0") { $0.snapshotTable.removeLast(9) },
            Fault(description: "far more entries than bytes", says: "entry 1") { $0.snapshotCount = 65536 },
            Fault(description: "noise", says: "entry 0") { image in
                image.snapshotTable = Array(DiskContents(mark: 5).bytes(at: 0, count: 65536, .noise))
            },
            Fault(description: "zeros", says: "entry 0") { $0.snapshotTable = [UInt8](repeating: 0, count: 65536) },
            Fault(description: "ones", says: "extra_data_size") {
                $0.snapshotTable = [UInt8](repeating: 0xFF, count: 65536)
            },
            Fault(description: "absurd l1_size", says: "found 4294967295 entries") {
                $0.snapshotTable = HostileImage.snapshot(l1Count: .max, id: "1", name: "a")
            },
            Fault(description: "l1_size of 0", says: "found 0 entries") {
                $0.snapshotTable = HostileImage.snapshot(l1Count: 0, id: "1", name: "a")
            },
            Fault(description: "L1 table beyond the file", says: "l1_table_offset") {
                $0.snapshotTable = HostileImage.snapshot(l1Offset: 1 << 40, id: "1", name: "a")
            },
            Fault(description: "L1 table within a cluster", says: "l1_table_offset") {
                $0.snapshotTable = HostileImage.snapshot(l1Offset: 512, id: "1", name: "a")
            },
            Fault(description: "a disk of 2^64 bytes", says: "l1_size") {
                $0.snapshotTable = HostileImage.snapshot(id: "1", name: "a", size: .max)
            },
            Fault(description: "endless extra data", says: "found 4294967295") {
                $0.snapshotTable = HostileImage.snapshot(id: "1", name: "a", extraLength: .max)
            },
        ]
    }

    @Test(arguments: Fault.all)
    func `a damaged table is refused when a snapshot is wanted; the disk itself is served`(_ fault: Fault) async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        var image = HostileImage()
        image.snapshotCount = 1
        image.snapshotTable = HostileImage.snapshot(id: "1", name: "a")
        fault.change(&image)
        let path = try image.write(to: directory.file("image"))
        let arguments = ["serve", path, "--socket", directory.file("s")]
        for option in [["--snapshot", "a"], ["--exports", "all"], ["--exports", "disk,snapshot/a"]] {
            try await Program.expectRefusal(arguments + option, status: 65, saying: "snapshot table", fault.says)
        }
        try await ServerUnderTest.run(arguments, in: directory) { server in try server.expect(Data(count: 1 << 20)) }
        #expect(try await InfoReport.of(path).snapshots == image.snapshotCount)
    }

    @Test func `tables that overlap each other and the header end in errors for clients, not for the program`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        var image = HostileImage()
        image.snapshotCount = 4
        // L1 tables in the header, in the refcount table, in the table of snapshots itself, and where another is.
        image.snapshotTable = [0, 65536, HostileImage.snapshotOffset, 3 * 65536].enumerated().flatMap { index, offset in
            HostileImage.snapshot(l1Offset: UInt64(offset), id: "\(index)", name: "s\(index)")
        }
        let path = try image.write(to: directory.file("image"))
        // An entry of the active L1 table points to the table of snapshots.
        try Qcow2Editor(path: path).set(UInt64(HostileImage.snapshotOffset), at: 3 * 65536)
        try Qcow2Editor(path: path).truncate(to: 6 * 65536)
        try await ServerUnderTest.run(
            ["serve", path, "--socket", directory.file("s"), "--exports", "all"], in: directory
        ) { server in
            for name in ["", "snapshot/s0", "snapshot/s1", "snapshot/s2", "snapshot/s3"] {
                let client = try LibNBDClient(server.uri(of: name))
                #expect(client.size == 1 << 20)
                for offset in stride(from: 0, to: 1 << 20, by: 65536) { _ = try? client.read(65536, at: offset) }
            }
            #expect(try LibNBDClient(server.uri(of: "snapshot/s1")).read(4096, at: 0) == Data(count: 4096))
        }
    }

    @Test func `65,536 snapshots cost bounded time and memory`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        var image = HostileImage()
        image.snapshotCount = 65536
        var table: [UInt8] = []
        for number in 0..<65536 { table += HostileImage.snapshot(id: "\(number)", name: "s\(number)") }
        image.snapshotTable = table
        let path = try image.write(to: directory.file("image"))
        let arguments = ["serve", path, "--socket", directory.file("s")]
        let start = ContinuousClock.now
        try await ServerUnderTest.run(arguments + ["--snapshot", "s65535"], in: directory) { server in
            #expect(try server.residentMemory(highest: true) < 200 << 20)
            try server.expect(Data(count: 1 << 20))
        }
        try await Program.expectRefusal(
            arguments + ["--exports", "all"], status: 64, saying: "65536 snapshots", "name some with --exports")
        try await ServerUnderTest.run(arguments + ["--exports", "snapshot/s7,snapshot/65535"], in: directory) {
            server in
            try server.expectExports("snapshot/s65535", "snapshot/s7")
        }
        // One more is none of a qcow2 image.
        image.snapshotCount = 65537
        try image.write(to: path)
        try await Program.expectRefusal(arguments, status: 65, saying: "nb_snapshots", "65537")
        #expect(ContinuousClock.now - start < .seconds(60))
    }

    @Test func `a table of more than 64 MiB is refused before it is read to its end`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        var image = HostileImage()
        image.snapshotCount = 65536
        let entry = HostileImage.snapshot(id: "1", name: String(repeating: "x", count: 60_000))
        let path = try image.write(to: directory.file("image"))
        let handle = try #require(FileHandle(forUpdatingAtPath: path))
        try handle.seekToEnd()
        for _ in 0..<1200 { try handle.write(contentsOf: entry) }
        try handle.close()
        try await Program.expectRefusal(
            ["serve", path, "--socket", directory.file("s"), "--snapshot", "1"], status: 65,
            saying: "snapshot table", "more than 67108864 bytes")
    }
}
