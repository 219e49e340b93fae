// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

@Suite struct Qcow1CensusTests {
    private static let data = UInt64(Qcow1Fixture.dataOffset)

    private func census(_ fixture: Qcow1Fixture) throws -> QcowCensus {
        try QcowCensus(file: fixture.device, header: #require(try fixture.header()))
    }

    @Test func `the census counts what the tables say`() throws {
        let packed = Qcow1Fixture.compressed(Qcow1Fixture.dataOffset, 8)
        let census = try census(
            Qcow1Fixture(
                size: 64 * 512 - 1,
                entries: [
                    Self.data, 0, packed, 1 << 50, Self.data + 1, Qcow1Fixture.compressed(2000, 500),
                    Qcow1Fixture.compressed(1536, 0),
                ], data: Qcow1Fixture.cluster(1)))
        #expect(census.clusterCount == 63)
        #expect(census.allocatedCount == 4)
        #expect(census.compressedCount == 2)
        #expect(census.faultCount == 4)
        #expect(census.firstFault == "the L2 entry at byte 1048 points to byte 1125899906842624, outside the file")
        #expect(census.isComplete)
    }

    @Test func `a sound image has no fault`() throws {
        let fixture = Qcow1Fixture(entries: [Self.data], data: Qcow1Fixture.cluster(1))
        let census = try census(fixture)
        #expect(census.faultCount == 0 && census.firstFault == nil && census.allocatedCount == 1)
        try QcowCensus.checkL1(file: fixture.device, header: #require(try fixture.header()))
    }

    @Test func `a table outside the file is a fault, and the others are counted`() throws {
        var fixture = Qcow1Fixture(size: 2 * 32768, entries: [Self.data], data: Qcow1Fixture.cluster(1))
        fixture.set(UInt64(1 << 41), at: Qcow1Fixture.l1Offset + 8)
        let census = try census(fixture)
        #expect(census.allocatedCount == 1)
        #expect(
            census.firstFault
                == "entry 1 of the L1 table at byte 520 points to an L2 table at byte 2199023255552, outside the file's 2048 bytes"
        )
    }

    @Test func `a table that is used over and over is counted once`() throws {
        var fixture = Qcow1Fixture(size: 64 * 32768, entries: [Self.data], data: Qcow1Fixture.cluster(1))
        for index in 0..<64 { fixture.set(UInt64(Qcow1Fixture.l2Offset), at: Qcow1Fixture.l1Offset + 8 * index) }
        let header = try #require(try fixture.header())
        let device = fixture.device
        let census = try QcowCensus(file: device, header: header)
        #expect(census.allocatedCount == 1)
        #expect(census.faultCount == 63)
        #expect(census.firstFault == "the L2 table at byte 1024 is used more than once")
        #expect(device.readCount < 8)
    }

    @Test func `no more tables are read than the limit says`() throws {
        // Two tables that overlap: an image can ask for more work than it has bytes.
        var fixture = Qcow1Fixture(
            size: 3 * 32768, entries: [Self.data, Self.data, Self.data], data: Qcow1Fixture.cluster(1))
        for index in 0..<3 {
            fixture.set(UInt64(Qcow1Fixture.l2Offset + 8 * index), at: Qcow1Fixture.l1Offset + 8 * index)
        }
        let header = try #require(try fixture.header())
        let census = try QcowCensus(file: fixture.device, header: header, maximumTableBytes: 1024)
        #expect(!census.isComplete)
        #expect(census.allocatedCount == 5)
        // The second table reaches 8 bytes into the data.
        #expect(census.faultCount == 1)
    }
}
