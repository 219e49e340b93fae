// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import ImageFormats

/// What `nbdecrypt info` says of an image.
struct InfoReport: Encodable {
    struct Features: Encodable {
        let incompatible: [String]
        let compatible: [String]
        let autoclear: [String]
    }

    struct Encryption: Encodable {
        /// "none", "aes" or "luks".
        let method: String
        /// Cipher and key.
        let description: String
        /// What the owner should know.
        var weaknesses: [String] = []
        /// Commands that lead away from it.
        var nextSteps: [String] = []
    }

    struct Clusters: Encodable {
        let total: UInt64
        let allocated: UInt64
        let compressed: UInt64
        let zero: UInt64
        /// False when the image has more tables than were counted.
        let isComplete: Bool
        let faults: UInt64
        let firstFault: String?
    }

    let image: String
    let format: String
    /// In bytes.
    let fileSize: UInt64
    /// In bytes; nil when the image is not complete enough to tell.
    var virtualSize: UInt64?
    /// What the header says, in bytes, when the disk is smaller: whole sectors of 512 alone are served, as QEMU does.
    var headerSize: UInt64?
    var version: UInt32?
    /// In bytes.
    var clusterSize: UInt64?
    var compression: String?
    var refcountBits: Int?
    var features: Features?
    var backingFile: String?
    var backingFormat: String?
    var dataFile: String?
    var snapshots: UInt32?
    var encryption: Encryption
    /// The LUKS container of the image, or the one that a guest made on its disk.
    var luks: LUKSReport?
    var clusters: Clusters?
    /// Why `serve` refuses the image; nil when it does not.
    var refusal: String?
    /// What the given secrets open.
    var passphraseCheck: PassphraseReport?
    /// What of the disk this is about; nil for all of it.
    var part: String?
    /// What lies where, if no key is needed to see it.
    var disk: DiskReport?
    /// What lies where on the disk in the container that the given secrets open.
    var decrypted: DiskReport?
    /// What a copy into a new image would take.
    var plan: MigrationPlan?
}

extension InfoReport.Encryption {
    /// That of an image, before anybody has looked for a container on its disk.
    ///
    /// - Parameter path: the file as a person typed it, for commands.
    init(_ method: Qcow2Header.Encryption, _ path: String) {
        switch method {
        case .none:
            self.init(method: "none", description: "none")
        case .legacyAES:
            self.init(
                method: "aes", description: "AES-128-CBC; the first 16 bytes of the passphrase are the key",
                weaknesses: [
                    "no salt and no key derivation: passphrases can be tried at full speed",
                    "predictable vectors: equal sectors of two states of the disk can be seen to be equal",
                    "changes of the encrypted data are not noticed, and neither is a wrong passphrase",
                    "QEMU no longer runs guests from such images",
                ],
                nextSteps: ["nbdecrypt migrate \(ShellText.fileArgument(path)) new.qcow2"])
        case .luks:
            self.init(method: "luks", description: "LUKS inside the image")
        }
    }
}

extension InfoReport.Clusters {
    init(_ census: MappedCensus) {
        self.init(
            total: census.clusterCount, allocated: census.allocatedCount, compressed: census.compressedCount,
            zero: census.zeroCount, isComplete: census.isComplete, faults: census.faultCount,
            firstFault: census.firstFault)
    }
}
