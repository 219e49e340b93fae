// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// An image of the LUKS matrix, made by `Helpers/luks_images.py`, and what its plaintext must be.
struct LUKSImage: Decodable, Sendable {
    let name: String
    /// Who says what the plaintext is, e.g. "dm-crypt and Python".
    let oracle: String
    /// What follows `nbdecrypt serve`.
    let arguments: [String]
    /// The path of the plaintext.
    let plaintext: String
    /// Of the plaintext, in bytes.
    let size: Int
    /// Of the plaintext, in hexadecimal.
    let sha256: String

    /// The names of a group, as `Helpers/luks_images.txt` lists them; the script makes exactly these.
    static func names(_ group: String) -> [String] {
        guard let text = try? File.text(Program.helper("luks_images.txt")) else { return [] }
        return text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            return words.count == 2 && words[0] == group ? String(words[1]) : nil
        }
    }

    /// Makes the images of these groups in a directory.
    static func make(_ groups: [String], in directory: TemporaryDirectory) async throws -> [String: LUKSImage] {
        let path = directory.file("images")
        // Debian's own Python, whose packages are known; others may stand before it on PATH.
        try await Tool.succeed("/usr/bin/python3", [Program.helper("luks_images.py"), path] + groups, seconds: 900)
        let images = try JSONDecoder().decode([LUKSImage].self, from: try File.contents("\(path)/manifest.json"))
        return Dictionary(images.map { ($0.name, $0) }) { first, _ in first }
    }
}

/// The trait of a suite whose images are made before its first case, all together, and removed after its last.
struct LUKSImagesTrait: SuiteTrait, TestScoping {
    let groups: [String]

    /// The images of the suite that is running, by name.
    @TaskLocal static var images: [String: LUKSImage] = [:]

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let images = try await LUKSImage.make(groups, in: directory)
        try await Self.$images.withValue(images) { try await function() }
    }
}

extension Trait where Self == LUKSImagesTrait {
    /// The suite reads the images of these groups.
    static func luksImages(_ groups: String...) -> LUKSImagesTrait { LUKSImagesTrait(groups: groups) }
}
