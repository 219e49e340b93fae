// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What `nbdecrypt info --json` prints.
struct InfoReport: Decodable {
    struct Clusters: Decodable {
        let total: UInt64
        let allocated: UInt64
        let compressed: UInt64
        let zero: UInt64
        let isComplete: Bool
        let faults: UInt64
        let firstFault: String?
    }

    struct Encryption: Decodable {
        let method: String
        let description: String
        let weaknesses: [String]
        let nextSteps: [String]
    }

    struct Features: Decodable {
        let incompatible: [String]
        let compatible: [String]
        let autoclear: [String]
    }

    struct LUKS: Decodable {
        struct HeaderCopy: Decodable {
            let name: String
        }

        struct Keyslot: Decodable {
            let number: Int
            let priority: String
            let keyBits: Int
            let derivation: String
            let encryption: String
            let encryptionKeyBits: Int
            let areaOffset: UInt64
            let areaSize: UInt64
        }

        struct Segment: Decodable {
            let offset: UInt64
            let size: UInt64?
            let encryption: String?
            let sectorSize: Int?
        }

        struct Token: Decodable {
            let type: String
        }

        struct Verdict: Decodable {
            struct Weakness: Decodable {
                let what: String
                let command: String?
            }

            let strong: [String]
            let weak: [Weakness]
        }

        let place: String
        let version: Int
        let uuid: String
        let label: String
        let subsystem: String
        let headerCopy: HeaderCopy?
        let cipher: String
        let keyslots: [Keyslot]
        let segments: [Segment]
        let tokens: [Token]
        let requirements: [String]
        let warnings: [String]
        let virtualSizeReason: String
        let differences: [String]
        let verdict: Verdict
    }

    struct PassphraseCheck: Decodable {
        struct Outcome: Decodable {
            let source: String
            let fits: Bool?
            let keyslots: [Int]?
        }

        let outcomes: [Outcome]
    }

    let image: String
    let format: String
    let fileSize: UInt64
    let virtualSize: UInt64?
    let headerSize: UInt64?
    let version: UInt32?
    let clusterSize: UInt64?
    let compression: String?
    let refcountBits: Int?
    let features: Features?
    let backingFile: String?
    let dataFile: String?
    let snapshots: UInt32?
    let encryption: Encryption
    let clusters: Clusters?
    let refusal: String?
    let luks: LUKS?
    let passphraseCheck: PassphraseCheck?
    let part: String?
    let disk: Disk?
    let decrypted: Disk?

    struct Disk: Decodable {
        struct VolumeGroup: Decodable {
            struct LogicalVolume: Decodable {
                let path: String
                let type: String
                let size: UInt64
                let contents: [String]
                let refusal: String?
                let command: String?
            }

            let name: String
            let places: [String]
            let volumes: [LogicalVolume]
        }

        let volumeGroups: [VolumeGroup]
        let volumeFaults: [String]
        struct Partition: Decodable {
            let number: Int
            let offset: UInt64
            let size: UInt64
            let name: String
            let contents: [String]
        }

        let table: String?
        let sectorSize: Int?
        let partitions: [Partition]
        let contents: [String]
        let fault: String?
    }

    /// Runs the program on an image, which must succeed.
    static func of(_ path: String, _ arguments: String...) async throws -> InfoReport {
        let text = try await Tool.succeed(try Program.path, ["info", path, "--json"] + arguments)
        return try JSONDecoder().decode(InfoReport.self, from: Data(text.utf8))
    }
}
