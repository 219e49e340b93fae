// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Bytes of a disk, in reports.
struct ReportedRange: Encodable {
    /// In bytes.
    let offset: UInt64
    /// In bytes.
    let length: UInt64

    init(_ range: ByteRange) {
        offset = range.offset
        length = range.length
    }
}
