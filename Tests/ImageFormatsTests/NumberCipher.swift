// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Adds the low byte of the sector number: shows which number a sector was decrypted with.
struct NumberCipher: SectorCipher {
    let sectorSize = 512

    func decrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        for index in 0..<sectors.byteCount {
            let number = UInt8(truncatingIfNeeded: firstSector + UInt64(index / 512))
            sectors.storeBytes(of: sectors.bytes.byte(at: index) &+ number, toByteOffset: index, as: UInt8.self)
        }
    }

    func encrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        for index in 0..<sectors.byteCount {
            let number = UInt8(truncatingIfNeeded: firstSector + UInt64(index / 512))
            sectors.storeBytes(of: sectors.bytes.byte(at: index) &- number, toByteOffset: index, as: UInt8.self)
        }
    }
}
