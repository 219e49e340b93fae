// SPDX-License-Identifier: Apache-2.0

package import BlockIO
package import Crypto
import ImageFormats

/// Opens a LUKS container: header, secrets, segments.
package struct LUKSOpener {
    /// How messages name the container, e.g. "disk.luks" or "the LUKS container in old.qcow2".
    let name: String
    /// The use of secrets that are for it alone; nil for a container on a guest disk.
    let own: SecretUse?
    let ring: SecretRing
    let options: LUKSUnlock.Options
    let log: OpeningLog
    /// What is given up on the disk is given up below.
    var allowsDiscards = false
    /// Nothing is unlocked: where the data lies can be told, what is encrypted cannot be read.
    var isSealed = false

    /// The header at the start of `device`, checked and free of what this program does not do.
    ///
    /// - Parameters:
    ///   - dataSize: of the device with the segments, in bytes, where it is known.
    ///   - isDetached: the segments lie in another device.
    package static func header(
        _ device: any BlockDevice, dataSize: UInt64?, isDetached: Bool
    ) throws(FormatError) -> LUKSVolume {
        // One of the two copies of its header may still look like that of LUKS. A start that cannot be read is for the reader.
        if (try? ImageProbe.findLUKS(device)) == .encryptedClone { throw ImageProbe.encryptedClone }
        guard let volume = try LUKSVolume.read(from: device, dataSize: dataSize, isDetached: isDetached) else {
            throw .notRecognised(
                "it holds no LUKS header; check the name, or leave \(remedy: .format(nil)) out to find out what it is")
        }
        return volume
    }

    /// The decrypted disk, which takes requests of any offset and length.
    ///
    /// - Parameters:
    ///   - header: holds the header, at its start.
    ///   - data: holds the segments; the same device unless the header is detached.
    /// - Throws: ``FormatError``, or ``OpeningError`` of a secret when no secret fits.
    func open(header: any BlockDevice, data: any BlockDevice) throws -> (disk: any BlockDevice, description: String) {
        let volume = try Self.header(header, dataSize: data.size, isDetached: header !== data)
        let segments = try check(volume)
        warnOfRaggedEnd(volume, data)
        if data.isWritable { try LUKSSupport.checkWritable(volume) }
        if isSealed { return (try Self.disk(of: volume, segments.sealedDevices(over: data)), Self.describe(volume)) }
        let opened = try unlock(volume, header)
        let disk = try Self.disk(volume, segments, over: data, opened, allowsDiscards: allowsDiscards)
        return (disk, Self.describe(volume))
    }

    /// What is no whole sector is left out, as by Linux.
    private func warnOfRaggedEnd(_ volume: LUKSVolume, _ data: any BlockDevice) {
        for segment in volume.disk where segment.offset <= data.size {
            let rest = (segment.size ?? data.size - segment.offset) % UInt64(segment.sectorSize)
            guard rest > 0 else { continue }
            log.warning(
                "\(name): the last \(rest) bytes of the data are no whole sector of \(segment.sectorSize), and no part of the disk; is the image complete?"
            )
        }
    }

    /// The decrypted disk of a volume whose keys are known; takes requests of any offset and length.
    ///
    /// - Parameter data: holds the segments.
    /// - Throws: ``FormatError`` when they do not fit.
    static func disk(
        _ volume: LUKSVolume, _ segments: LUKSSegments, over data: any BlockDevice, _ opened: [LUKSUnlock.Opened],
        allowsDiscards: Bool = false
    ) throws(FormatError) -> any BlockDevice {
        let parts = try segments.devices(over: data, allowsDiscards: allowsDiscards) { number -> Secret? in
            opened.first { $0.digest.segments.contains(number) }?.key
        }
        return try disk(of: volume, parts)
    }

    /// - Parameter parts: the devices of the segments.
    private static func disk(
        of volume: LUKSVolume, _ parts: [any BlockDevice]
    ) throws(FormatError) -> any BlockDevice {
        let disk: (any BlockDevice)? = parts.count == 1 ? parts[0] : ConcatDevice(parts)
        guard let disk, disk.size > 0 else {
            throw FormatError.damaged(
                "LUKS data", at: volume.segments.first?.offset ?? 0, found: "no whole sector", allowed: "at least one",
                advice:
                    "a file with a header alone is a backup of the header: give the data as IMAGE and it as \(remedy: .luksHeader(path: nil))"
            )
        }
        return AlignedDevice.lifting(disk)
    }

    /// The cipher of a qcow2 image whose LUKS header lies in `window`.
    func cipher(qcow2Header window: any BlockDevice) throws -> (cipher: any SectorCipher, description: String) {
        let volume = try Self.header(window, dataSize: nil, isDetached: true)
        let segments = try check(volume)
        guard volume.version == 1 else {
            throw FormatError.unsupported(
                "the LUKS header inside the image has version \(volume.version); QEMU writes version 1 only")
        }
        if isSealed { return (SealedCipher(sectorSize: volume.disk.first?.sectorSize ?? 512), Self.describe(volume)) }
        guard let key = try unlock(volume, window).first?.key else {
            throw FormatError.unsupported("the LUKS header inside the image has no digest")
        }
        return (try segments.cipher(key: key), Self.describe(volume))
    }

    /// E.g. "LUKS2, aes-xts-plain64".
    private static func describe(_ volume: LUKSVolume) -> String {
        let ciphers = volume.disk.map { segment in
            if case .crypt(let encryption, _, _) = segment.kind { encryption } else { "not encrypted" }
        }
        let names = ciphers.enumerated().filter { ciphers.firstIndex(of: $0.element) == $0.offset }.map(\.element)
        return "LUKS\(volume.version), \(names.joined(separator: " and "))"
    }

    /// Refuses what no secret could change, before any is asked for.
    private func check(_ volume: LUKSVolume) throws(FormatError) -> LUKSSegments {
        for warning in volume.warnings { log.warning("\(name): \(warning)") }
        let segments = try LUKSSegments(volume, allowing: options.plaintext)
        if volume.isOnlyInitialised { log.warning("\(name): \(LUKSVolume.initialisedSentence)") }
        for plaintext in LUKSPlaintext.all(in: volume) {
            log.warning("\(name): \(plaintext), and \(remedy: plaintext.remedy) allows it")
        }
        return segments
    }

    /// The keys of a volume that the secrets open, which is checked already.
    /// - Throws: ``OpeningError`` when they open it not.
    func unlock(_ volume: LUKSVolume, _ header: any BlockDevice) throws -> [LUKSUnlock.Opened] {
        let progress = DerivationProgress(log: log)
        defer { progress.end() }
        let unlock = LUKSUnlock(volume, header: header, options: options.tryingVariants) { what in
            log.debug("\(name): trying \(what)")
            progress.begin(what)
        }
        do {
            guard volume.disk.contains(where: \.isEncrypted) else { return [] }
            let volumeKeys = try ring.volumeKeys()
            try unlock.prepare(volumeKeyCount: volumeKeys.count)
            let known = try unlock.proved(by: volumeKeys)
            let isSettled = known.count == unlock.neededDigestNumbers.count
            guard isSettled || volumeKeys.isEmpty || ring.hasPassphrases(for: own) else {
                throw unlock.failure(of: volumeKeys, proving: known)
            }
            let opened =
                isSettled
                ? known
                : try ring.open(name, own: own) { secrets in
                    do { return try unlock.open(with: secrets, besides: known) } catch let error as UnlockError {
                        throw OpeningError(error, image: name)
                    }
                }
            for key in opened {
                log.notice(
                    key.keyslot.map { "\(name): keyslot \($0) opens with \(key.source)" }
                        ?? "\(name): the volume key from \(key.source) is right")
            }
            return opened
        } catch let error as UnlockError {
            throw OpeningError(error, image: name)
        }
    }
}
