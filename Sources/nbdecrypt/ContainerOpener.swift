// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Logging

/// Opens LUKS containers that lie on disks, with the secrets that are there.
struct ContainerOpener {
    let ring: SecretRing
    let options: LUKSUnlock.Options
    let log: Logger
    /// False: nobody is ever asked for a passphrase.
    var mayAsk = true

    /// The LUKS container that a disk holds, decrypted.
    ///
    /// - Parameter mayAsk: a person may be asked for its passphrase.
    /// - Throws: ``FormatError``; ``Failure`` when no secret fits, or there is none.
    func open(
        on disk: any BlockDevice, _ name: String, mayAsk: Bool = true
    ) throws -> (disk: any BlockDevice, encryption: String) {
        guard mayAsk && self.mayAsk || ring.names != nil else {
            throw Failure(.wrongPassphrase, "\(name) holds a LUKS container, and no secret is given")
        }
        let (device, encryption) = try opener(name, layer: nil).open(header: disk, data: disk)
        return (device, encryption)
    }

    /// The keys of a container that was found.
    ///
    /// - Parameter name: for messages.
    /// - Throws: ``Failure`` when no secret fits, or there is none.
    func keys(of container: LUKSContainer, _ name: String) throws -> [LUKSUnlock.Opened] {
        try checkMayTry(name)
        return try opener(name, layer: 0).unlock(container.volume, container.header)
    }

    /// The cipher of an AES image.
    ///
    /// - Parameter disk: what the image alone says if a cipher is right.
    /// - Throws: ``Failure`` when no secret fits, or there is none.
    func cipher(
        _ name: String, _ disk: @escaping (LegacyAESCipher) -> any BlockDevice
    ) throws -> LegacyAESCipher {
        try checkMayTry(name)
        return try LegacyAESOpener(name: name, layer: 0, ring: ring, checksPassphrase: true, log: log, disk: disk)
            .open()
    }

    private func checkMayTry(_ name: String) throws(Failure) {
        guard mayAsk || ring.names != nil else {
            throw Failure(
                .wrongPassphrase,
                "\(name) is encrypted, and no secret is given; give one, or add --check-passphrase to be asked for it")
        }
    }

    /// - Parameter layer: of the chain; nil for a container on a disk.
    func opener(_ name: String, layer: Int?) -> LUKSOpener {
        LUKSOpener(name: name, layer: layer, ring: ring, options: options, log: log)
    }
}
