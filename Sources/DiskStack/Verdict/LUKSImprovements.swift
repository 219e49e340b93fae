// SPDX-License-Identifier: Apache-2.0

import Crypto

/// Something that the owner of a container can do about a weakness.
package enum LUKSImprovement: Equatable {
    /// A new image is made of what is served.
    case renewal
    /// The copy of the header that is damaged is written anew.
    case repair
    /// The reencryption goes on to its end.
    case resumption
    /// It becomes LUKS2 where it is.
    case conversion
    /// Keyslots get argon2id.
    case argon2
    /// Keyslots get more iterations.
    case longerDerivation
    /// The data gets a better cipher where it is.
    case reencryption
    /// The data gets sectors of 4096 bytes where it is.
    case largerSectors
}

/// What can be done about a container where it lies; nil where nothing helps.
///
/// cryptsetup changes what it sees as a device or a file, and takes no header that tells of plaintext unless an encryption
/// is under way. What is being reencrypted cannot be read, so no new image can be made of it.
struct LUKSImprovements {
    /// About parts in the clear.
    private(set) var plaintext: LUKSImprovement?
    private(set) var version: LUKSImprovement?
    private(set) var derivation: LUKSImprovement?
    private(set) var cipher: LUKSImprovement?
    private(set) var sectors: LUKSImprovement?
    private(set) var copies: LUKSImprovement?
    private(set) var reencryption: LUKSImprovement?
    private(set) var conversion = LUKSWeakness.Conversion.byRenewal

    /// - Parameter isInImage: cryptsetup does not see the container.
    init(_ volume: LUKSVolume, _ parts: [LUKSPlaintext], isInImage: Bool) {
        guard !isInImage, parts.isEmpty || volume.isInReencryption else {
            guard !volume.isInReencryption else { return }
            (plaintext, version, derivation) = (.renewal, .renewal, .renewal)
            (cipher, sectors, copies) = (.renewal, .renewal, .renewal)
            return
        }
        copies = .repair
        guard !volume.isInReencryption else {
            reencryption = .resumption
            return
        }
        guard volume.hasRoomForLUKS2 else {
            conversion = .withoutRoom
            derivation = .longerDerivation
            cipher = .renewal
            return
        }
        conversion = .losesQEMU
        (version, derivation, cipher, sectors) = (.conversion, .argon2, .reencryption, .largerSectors)
    }
}
