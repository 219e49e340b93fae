// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

@Suite struct QcowCensusTests {
    private static let data = UInt64(QcowFixture.dataOffset)

    private func census(_ fixture: QcowFixture) throws -> MappedCensus {
        try MappedCensus(file: fixture.device, header: #require(try fixture.header()))
    }

    @Test func `the census counts what the tables say`() throws {
        let packed = QcowFixture.compressed(QcowFixture.dataOffset, 8)
        let census = try census(
            QcowFixture(
                size: 64 * 512 - 1,
                entries: [
                    Self.data, 0, packed, 1 << 50, Self.data + 1, QcowFixture.compressed(2000, 500),
                    QcowFixture.compressed(1536, 0),
                ], data: QcowFixture.cluster(1)))
        #expect(census.clusterCount == 63)
        #expect(census.allocatedCount == 4)
        #expect(census.compressedCount == 2)
        #expect(census.faultCount == 4)
        #expect(census.firstFault == "the L2 entry at byte 1048 points to byte 1125899906842624, outside the file")
        #expect(census.isComplete)
    }

    @Test func `a sound image has no fault`() throws {
        let fixture = QcowFixture(entries: [Self.data], data: QcowFixture.cluster(1))
        let census = try census(fixture)
        #expect(census.faultCount == 0 && census.firstFault == nil && census.allocatedCount == 1)
        try MappedCensus.checkL1(file: fixture.device, header: #require(try fixture.header()))
    }

    @Test func `a table outside the file is a fault, and the others are counted`() throws {
        var fixture = QcowFixture(size: 2 * 32768, entries: [Self.data], data: QcowFixture.cluster(1))
        fixture.set(UInt64(1 << 41), at: QcowFixture.l1Offset + 8)
        let census = try census(fixture)
        #expect(census.allocatedCount == 1)
        #expect(
            census.firstFault
                == "entry 1 of the L1 table at byte 520 points to an L2 table at byte 2199023255552, outside the file's 2048 bytes"
        )
    }

    @Test func `a table that is used over and over is counted once`() throws {
        var fixture = QcowFixture(size: 64 * 32768, entries: [Self.data], data: QcowFixture.cluster(1))
        for index in 0..<64 { fixture.set(UInt64(QcowFixture.l2Offset), at: QcowFixture.l1Offset + 8 * index) }
        let header = try #require(try fixture.header())
        let device = fixture.device
        let census = try MappedCensus(file: device, header: header)
        #expect(census.allocatedCount == 1)
        #expect(census.faultCount == 63)
        #expect(census.firstFault == "the L2 table at byte 1024 is used more than once")
        #expect(device.readCount < 8)
    }

    @Test func `no more tables are read than the limit says`() throws {
        // Two tables that overlap: an image can ask for more work than it has bytes.
        var fixture = QcowFixture(
            size: 3 * 32768, entries: [Self.data, Self.data, Self.data], data: QcowFixture.cluster(1))
        for index in 0..<3 {
            fixture.set(UInt64(QcowFixture.l2Offset + 8 * index), at: QcowFixture.l1Offset + 8 * index)
        }
        let header = try #require(try fixture.header())
        let census = try MappedCensus(file: fixture.device, header: header, maximumTableBytes: 1024)
        #expect(!census.isComplete)
        #expect(census.allocatedCount == 5)
        // The second table reaches 8 bytes into the data.
        #expect(census.faultCount == 1)
    }
}
