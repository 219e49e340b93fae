// SPDX-License-Identifier: Apache-2.0

/// Bytes that are no zeros; the same ones come again after 65,521.
func noise(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count < count { bytes += noisyBlock.prefix(count - bytes.count) }
    return bytes
}

private let noisyBlock = (0..<65_521).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 11) | 1 }
