// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What is at the end of an image and is no whole sector: it is no part of the disk, and that is said once.
@Suite(.fewAtATime)
struct RaggedEndTests {
    @Test func `serve, migrate and the plan say once what a LUKS container has behind its last sector`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await LUKSMaker(directory: directory).format(
            "disk.luks", type: "luks1", passphrase: "right", options: ["--pbkdf-force-iterations", "1000"])
        let size = try File.contents(image).count
        try await expectWarning(
            of: image, "the last 412 bytes of the data are no whole sector of 512", secret: "right", in: directory
        ) { try await Tool.succeed("truncate", ["-s", "\(size - 100)", image]) }
    }

    @Test func `so do they of the size in a qcow2 header`() async throws {
        try await SmallDisk.with { disk, image in
            try await expectWarning(
                of: image, "the last 5 are less than a sector of 512, and no part of the disk, as in QEMU", secret: nil,
                in: disk.directory
            ) { try Qcow2Editor(path: image).set(UInt64(disk.contents.count + 5), at: 24) }
        }
    }

    private func expectWarning(
        of image: String, _ words: String, secret: String?, in directory: TemporaryDirectory,
        cut: () async throws -> Void,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let key = try secret.map { ["--passphrase-file", try directory.write("key", text: $0)] } ?? []
        for (index, ragged) in [false, true].enumerated() {
            if ragged { try await cut() }
            for command in [
                ["serve", image, "--run", "true"] + key, ["migrate", image, directory.file("new\(index).raw")] + key,
                ["info", image, "--plan", "--to", "raw"],
            ] {
                let outcome = try await Program.run(command)
                #expect(outcome.code == 0, "\(outcome.errors)", sourceLocation: sourceLocation)
                let count = (outcome.output + outcome.errors).ranges(of: words).count
                #expect(count == (ragged ? 1 : 0), "\(outcome.output)\(outcome.errors)", sourceLocation: sourceLocation)
            }
        }
        let size = try File.contents(directory.file("new1.raw")).count
        #expect(size % 512 == 0 && size > 0, sourceLocation: sourceLocation)
    }
}
