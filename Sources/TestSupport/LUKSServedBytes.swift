// SPDX-License-Identifier: Apache-2.0

public import BlockIO
public import Crypto

/// Looks at what a volume would serve to somebody who has allowed nothing by name.
public enum LUKSServedBytes {
    /// A sentence about the first bytes that came through no cipher, or about a key that everybody can read; nil when there
    /// are none, or the volume is refused.
    ///
    /// It is not asked what ``LUKSPlaintext`` thinks of the volume: the first sector of each segment is read, with a key that
    /// is made up, and compared with what is on the device.
    ///
    /// - Parameter permissions: what somebody has allowed after all, to see that it is found.
    public static func inTheClear(
        _ volume: LUKSVolume, over data: any BlockDevice, allowing permissions: LUKSPlaintext.Permissions = []
    ) -> String? {
        guard let segments = try? LUKSSegments(volume, allowing: permissions) else { return nil }
        for digest in volume.digests where !digest.segments.isEmpty {
            for keyslot in volume.keyslots where digest.keyslots.contains(keyslot.number) {
                if (try? CipherSpec(keyslot.encryption))?.isNull == true {
                    return "keyslot \(keyslot.number) is of the null cipher"
                }
            }
        }
        let devices = try? segments.devices(over: data) { number -> Secret? in
            let digest = volume.digests.first { $0.segments.contains(number) }
            let keyslot = volume.keyslots.first { digest?.keyslots.contains($0.number) ?? false }
            return key(count: keyslot?.keySize ?? 64)
        }
        for (segment, device) in zip(volume.disk, devices ?? []) {
            let count = segment.sectorSize
            guard device.size >= UInt64(count), let served = try? device.read(count: count, at: 0),
                let stored = try? AlignedDevice.lifting(data).read(count: count, at: segment.offset)
            else { continue }
            if served == stored { return "segment \(segment.number) is served as it is stored" }
        }
        return nil
    }

    /// Bytes that are no weak key of any cipher.
    private static func key(count: Int) -> Secret {
        Secret(count: count) { bytes in
            for index in 0..<count {
                bytes.storeBytes(of: UInt8(truncatingIfNeeded: index &* 73 &+ 29), toByteOffset: index, as: UInt8.self)
            }
        }
    }
}
