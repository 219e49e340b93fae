// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing

/// Units that bytes need, up to the ends of 64 bits.
@Suite struct RoundingTests {
    @Test(arguments: [1, 512, 3, 1 << 40] as [UInt64])
    func `a unit that is begun counts as one`(unit: UInt64) {
        #expect(UInt64(0).units(of: unit) == 0 && UInt64(0).roundedUp(to: unit) == 0)
        #expect(UInt64(1).units(of: unit) == 1 && UInt64(1).roundedUp(to: unit) == unit)
        #expect(unit.units(of: unit) == 1 && (unit + 1).units(of: unit) == 2 || unit == 1)
        #expect((7 * unit).roundedUp(to: unit) == 7 * unit)
    }

    @Test func `nothing overflows that has a result`() {
        #expect(UInt64.max.units(of: 512) == 1 << 55)
        #expect(UInt64.max.units(of: 1) == .max)
        #expect((UInt64.max - 1023).roundedUp(to: 512) == UInt64.max - 1023)
    }
}
