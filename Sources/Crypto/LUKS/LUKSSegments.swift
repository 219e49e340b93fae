// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The segments of a volume as devices.
///
/// All that make the disk are used, in the order of their numbers, as the on-disk specification has it. There is no other
/// way to a device of a volume, and none to this type but through every check that needs no secret.
public struct LUKSSegments {
    private let volume: LUKSVolume

    /// Checks that every segment may be served and can be decrypted here, before anybody types a passphrase.
    ///
    /// - Parameter permissions: what may be served though it is not encrypted.
    /// - Throws: ``FormatError`` with code `unsupported`.
    public init(_ volume: LUKSVolume, allowing permissions: LUKSPlaintext.Permissions) throws(FormatError) {
        try LUKSSupport.check(volume)
        try LUKSPlaintext.check(volume, allowing: permissions)
        try Self.checkCiphers(volume)
        self.volume = volume
    }

    /// Can every segment be decrypted here, with the key that its digest proves?
    private static func checkCiphers(_ volume: LUKSVolume) throws(FormatError) {
        for segment in volume.disk {
            guard case .crypt(let encryption, _, _) = segment.kind else { continue }
            guard let digest = volume.digests.first(where: { $0.segments.contains(segment.number) }) else {
                throw .unsupported("segment \(segment.number) is encrypted, but no digest proves its key")
            }
            let spec = try CipherSpec(encryption)
            guard let keyslot = volume.keyslots.first(where: { digest.keyslots.contains($0.number) }) else { continue }
            try spec.check(keySize: keyslot.keySize)
        }
    }

    /// A decrypted device for each segment.
    ///
    /// - Parameters:
    ///   - data: holds the segments.
    ///   - allowsDiscards: give up in `data` what is given up on the disk, as ``CryptDevice`` does.
    ///   - key: the volume key of the segment with a number.
    /// - Throws: ``FormatError`` when they do not fit, or are written to when they must not be.
    public func devices(
        over data: any BlockDevice, allowsDiscards: Bool = false, key: (_ segment: Int) -> Secret?
    ) throws(FormatError) -> [any BlockDevice] {
        if data.isWritable { try LUKSSupport.checkWritable(volume) }
        var devices: [any BlockDevice] = []
        for segment in volume.disk {
            let device = try device(segment, over: data, allowsDiscards: allowsDiscards) {
                (encryption, sectorSize) throws(FormatError) in
                guard let key = key(segment.number) else {
                    throw .unsupported("LUKS segment \(segment.number) has no key")
                }
                return try CipherSpec(encryption).makeCipher(key: key, sectorSize: sectorSize)
            }
            devices.append(device)
        }
        return devices
    }

    /// The same without keys: where the data lies can be told, what is encrypted cannot be read.
    ///
    /// - Parameter data: holds the segments.
    /// - Throws: ``FormatError`` when they do not fit.
    public func sealedDevices(over data: any BlockDevice) throws(FormatError) -> [any BlockDevice] {
        var devices: [any BlockDevice] = []
        for segment in volume.disk {
            devices.append(
                try device(segment, over: data, allowsDiscards: false) { _, sectorSize in
                    SealedCipher(sectorSize: sectorSize)
                })
        }
        return devices
    }

    /// The cipher of the only segment, for an image that takes the place of its sectors from elsewhere.
    ///
    /// - Parameter key: the volume key.
    /// - Throws: ``FormatError`` (unsupported) when there is another segment, or none that is encrypted.
    public func cipher(key: Secret) throws(FormatError) -> any SectorCipher {
        guard volume.disk.count == 1, case .crypt(let encryption, let sectorSize, _) = volume.disk[0].kind else {
            throw .unsupported("the LUKS header has \(volume.disk.count) segments; inside an image there is one")
        }
        return try CipherSpec(encryption).makeCipher(key: key, sectorSize: sectorSize)
    }

    private func device(
        _ segment: LUKSSegment, over data: any BlockDevice, allowsDiscards: Bool,
        cipher: (_ encryption: String, _ sectorSize: Int) throws(FormatError) -> any SectorCipher
    ) throws(FormatError) -> any BlockDevice {
        let field = "LUKS segment \(segment.number)"
        guard segment.offset <= data.size,
            let range = ByteRange(offset: segment.offset, length: segment.size ?? data.size - segment.offset),
            range.fits(data.size)
        else {
            let end = segment.size.map { " and \($0) bytes" } ?? ""
            throw .damaged(
                field, at: segment.offset, found: "offset \(segment.offset)\(end)",
                allowed: "a place within the \(data.size) bytes of the data",
                advice: "the image is not complete, or it is a backup of the header: compare it with the original")
        }
        let below = AlignedDevice.lifting(data)
        switch segment.kind {
        case .linear:
            guard let whole = ByteRange(offset: range.offset, length: range.length / 512 * 512) else { return below }
            return WindowDevice(below, whole)
        case .crypt(let encryption, let sectorSize, let ivTweak):
            let cipher = try cipher(encryption, sectorSize)
            guard
                let device = CryptDevice(
                    WindowDevice(below, range), cipher: cipher, ivTweak: ivTweak, allowsDiscards: allowsDiscards)
            else {
                throw .damaged(
                    "\(field): iv_tweak", at: segment.offset, found: ivTweak,
                    allowed: "a number of the last sector within 64 bits")
            }
            return device
        case .integrity, .other:
            throw .unsupported("\(field) is of a type that is not read")
        }
    }
}
