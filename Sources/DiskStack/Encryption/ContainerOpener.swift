// SPDX-License-Identifier: Apache-2.0

package import BlockIO
package import Crypto

/// Opens LUKS containers that lie on disks, with the secrets that are there.
package struct ContainerOpener {
    let ring: SecretRing
    let options: LUKSUnlock.Options
    let log: OpeningLog
    /// False: nobody is ever asked for a passphrase.
    var mayAsk = true
    /// What is given up on the disks is given up below.
    var allowsDiscards = false
    /// Nothing is unlocked, as ``LUKSOpener/isSealed`` has it.
    var isSealed = false

    /// - Parameters:
    ///   - mayAsk: a person may be asked for passphrases.
    ///   - allowsDiscards: what is given up on the disks is given up below.
    package init(
        ring: SecretRing, options: LUKSUnlock.Options, log: OpeningLog, mayAsk: Bool = true,
        allowsDiscards: Bool = false
    ) {
        (self.ring, self.options, self.log, self.mayAsk) = (ring, options, log, mayAsk)
        self.allowsDiscards = allowsDiscards
    }

    /// The LUKS container that a disk holds, decrypted.
    ///
    /// - Parameter mayAsk: a person may be asked for its passphrase.
    /// - Throws: ``FormatError``; ``OpeningError`` when no secret fits, or there is none.
    package func open(
        on disk: any BlockDevice, _ name: String, mayAsk: Bool = true
    ) throws -> (disk: any BlockDevice, encryption: String) {
        guard isSealed || mayAsk && self.mayAsk || ring.names != nil else {
            throw OpeningError(.wrongSecret, "\(name) holds a LUKS container, and no secret is given")
        }
        let (device, encryption) = try opener(name, own: nil).open(header: disk, data: disk)
        return (device, encryption)
    }

    /// The keys of a container that was found.
    ///
    /// - Parameter name: for messages.
    /// - Throws: ``OpeningError`` when no secret fits, or there is none.
    package func keys(of container: LUKSContainer, _ name: String) throws -> [LUKSUnlock.Opened] {
        try checkMayTry(name)
        return try opener(name, own: .passphraseOfLayer(0)).unlock(container.volume, container.header)
    }

    /// The cipher of an AES image.
    ///
    /// - Parameter disk: what the image alone says if a cipher is right.
    /// - Throws: ``OpeningError`` when no secret fits, or there is none.
    package func cipher(
        _ name: String, _ disk: @escaping (LegacyAESCipher) -> any BlockDevice
    ) throws -> LegacyAESCipher {
        try checkMayTry(name)
        return try LegacyAESOpener(name: name, layer: 0, ring: ring, checksPassphrase: true, log: log, disk: disk)
            .open()
    }

    private func checkMayTry(_ name: String) throws(OpeningError) {
        guard mayAsk || ring.names != nil else {
            throw OpeningError(
                .wrongSecret,
                "\(name) is encrypted, and no secret is given; give one, or add \(remedy: .checkPassphrase) to be asked for it"
            )
        }
    }

    /// - Parameter own: the use of secrets that are for it alone; nil for a container on a disk.
    func opener(_ name: String, own: SecretUse?) -> LUKSOpener {
        LUKSOpener(
            name: name, own: own, ring: ring, options: options, log: log, allowsDiscards: allowsDiscards,
            isSealed: isSealed)
    }
}
