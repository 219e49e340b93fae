// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import ImageFormats
import SystemPackage
import TestSupport
import Testing

/// Images by qemu-img, read from a source far away whose round trips are counted.
@Suite struct FarImageTests {
    private static let size = 1 << 40

    /// Far from each other: each has an L2 table of its own. In an order that is not that in the file.
    private static func places(_ seed: UInt64) -> [Int] {
        var random = SeededGenerator(seed: seed)
        var tables: Set<Int> = []
        while tables.count < 16 { tables.insert(random.number(below: size >> 29)) }
        return tables.sorted().shuffled(using: &random).map { $0 << 29 + random.number(below: 1 << 17) << 12 }
    }

    @Test(arguments: [1, 2])
    func `a qcow2 image of 1 TiB is opened in 2 round trips, and read at 16 random places in 2 each`(seed: UInt64)
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = directory.file("image.qcow2")
        let places = Self.places(seed)
        try await Tool.succeed("qemu-img", ["create", "-q", "-f", "qcow2", path, String(Self.size)])
        let writes = places.sorted().enumerated().flatMap { ["-c", "write -P \($0 + 1) \($1) 4096"] }
        try await Tool.succeed("qemu-io", ["-f", "qcow2"] + writes + [path])

        let clock = VirtualClock()
        let file = try FileDevice(path: FilePath(path), excludesWriters: false)
        let host = SimulatedHost(clock: clock)
        let source = host.add("image", file)
        let device = try host.opener.open(SimulatedHost.source("image")).device
        let header = try #require(try Qcow2Header(device: device))
        // As the program does: every entry of L1 is looked at.
        try MappedCensus.checkL1(file: device, header: header)
        let image = Qcow2Image(file: device, header: header, cipher: nil)
        #expect(image.size == UInt64(Self.size))
        let latency = source.behaviour.latency
        #expect(clock.now <= latency * 2)

        let sorted = places.sorted()
        for place in places {
            let before = clock.now
            let mark = try #require(sorted.firstIndex(of: place)) + 1
            #expect(try image.read(count: 4096, at: UInt64(place)) == [UInt8](repeating: UInt8(mark), count: 4096))
            #expect(clock.now - before <= latency * 2)
        }
        // The tables and the data are there now.
        let after = clock.now
        for place in places { _ = try image.read(count: 4096, at: UInt64(place), .cachedOnly) }
        #expect(clock.now == after)
        #expect(source.counts.operations.count <= 2 + 2 * 16 + 16)
    }
}
