// SPDX-License-Identifier: Apache-2.0

import Crypto

/// Where `cryptsetup open` would give another disk than `nbdecrypt serve` does.
///
/// cryptsetup looks at the first segment only, takes all of the device for it and ignores iv_tweak.
enum CryptsetupDifferences {
    /// A sentence for each; none for LUKS1.
    static func list(_ volume: LUKSVolume) -> [String] {
        guard volume.version == 2 else { return [] }
        var found: [String] = []
        let segments = volume.disk
        if segments.count > 1 {
            found.append("cryptsetup open uses segment \(segments[0].number) alone, nbdecrypt all of them")
        }
        if case .crypt(_, _, let tweak)? = segments.first?.kind, tweak != 0 {
            found.append("cryptsetup open ignores the iv_tweak \(tweak) of the first segment, nbdecrypt adds it")
        }
        if let size = segments.first?.size, segments.count == 1 {
            found.append("cryptsetup open takes the whole device for the segment, nbdecrypt its \(size) bytes")
        }
        return found
    }
}
