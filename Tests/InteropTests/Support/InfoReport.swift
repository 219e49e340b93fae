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

    let image: String
    let format: String
    let fileSize: UInt64
    let virtualSize: UInt64
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

    /// Runs the program on an image, which must succeed.
    static func of(_ path: String, _ arguments: String...) async throws -> InfoReport {
        let text = try await Tool.succeed(try Program.path, ["info", path, "--json"] + arguments)
        return try JSONDecoder().decode(InfoReport.self, from: Data(text.utf8))
    }
}
