// SPDX-License-Identifier: Apache-2.0

extension Sequence<UInt64> {
    /// Of all of them; the largest number when it does not fit 64 bits.
    package var saturatingSum: UInt64 {
        reduce(0) { sum, number in
            let (total, overflow) = sum.addingReportingOverflow(number)
            return overflow ? .max : total
        }
    }
}

extension UInt64 {
    /// How many units of a size hold this many bytes; the last one may not be full. `unit` is not 0.
    package func units(of unit: UInt64) -> UInt64 { self / unit + (self % unit == 0 ? 0 : 1) }

    /// The first multiple of `unit`, which is not 0, that is not less. It has to fit 64 bits.
    package func roundedUp(to unit: UInt64) -> UInt64 { units(of: unit) * unit }
}
