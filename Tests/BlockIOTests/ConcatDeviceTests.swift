// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing
import TestSupport

@Suite struct ConcatDeviceTests {
    @Test func `parts of any length lie behind each other, empty ones too`() throws {
        let lengths = [3, 0, 1, 7, 0, 0, 5, 2]
        var next: UInt8 = 0
        let parts = lengths.map { length in
            MemoryDevice(
                (0..<length).map { _ in
                    next += 1
                    return next
                })
        }
        let device = try #require(ConcatDevice(parts))
        let bytes = (1...18).map { UInt8($0) }
        #expect(device.size == 18)
        for start in 0..<18 {
            for end in start...18 {
                #expect(try device.read(count: end - start, at: UInt64(start)) == Array(bytes[start..<end]))
            }
        }
        #expect(try device.extents().map(\.length) == [3, 1, 7, 5, 2])
        #expect(throws: BlockError.self) { try device.extent(at: 18, limit: 1) }
        #expect(throws: BlockError.self) { try device.read(count: 1, at: 18) }
    }

    @Test func `only the parts of a range are read, however many there are`() throws {
        let parts = (0..<1000).map { MemoryDevice([UInt8(truncatingIfNeeded: $0)]) }
        let device = try #require(ConcatDevice(parts))
        #expect(try device.read(count: 3, at: 511) == [255, 0, 1])
        #expect(parts.filter { $0.readCount > 0 }.count == 3)
        device.prefetch(998, 10, Budget(looks: 10))
        #expect(parts.indices.filter { !parts[$0].calls.isEmpty } == [998, 999])
    }
}
