// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto

/// The bytes that `digits` spell, two hexadecimal digits each; spaces do not count.
func bytes(_ digits: String) -> [UInt8] {
    let values = digits.compactMap(\.hexDigitValue)
    return stride(from: 0, to: values.count, by: 2).map { UInt8(values[$0] * 16 + values[$0 + 1]) }
}

func secret(_ bytes: [UInt8]) -> Secret {
    bytes.withBytes { bytes in Secret(count: bytes.byteCount) { $0.copy(from: bytes) } }
}

func bytes(_ secret: Secret) -> [UInt8] { secret.withBytes { [UInt8](copying: $0) } }

/// Bytes that look random and are the same in every run.
func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed
    return (0..<count).map { _ in
        state = state.multipliedReportingOverflow(by: 6_364_136_223_846_793_005).partialValue
        state = state.addingReportingOverflow(1_442_695_040_888_963_407).partialValue
        return UInt8(truncatingIfNeeded: state >> 56)
    }
}

extension SectorCipher {
    func decrypted(_ data: [UInt8], firstSector: UInt64) throws -> [UInt8] {
        var data = data
        try data.withMutableBytes { (span) throws(BlockError) in try decrypt(&span, firstSector: firstSector) }
        return data
    }

    func encrypted(_ data: [UInt8], firstSector: UInt64) throws -> [UInt8] {
        var data = data
        try data.withMutableBytes { (span) throws(BlockError) in try encrypt(&span, firstSector: firstSector) }
        return data
    }
}
