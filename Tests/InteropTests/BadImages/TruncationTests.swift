// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Files that have lost their end.
@Suite(.fewAtATime)
struct TruncationTests {
    private static let cluster = 65_536

    @Test(arguments: [
        0, 1, 3, 4, 7, 8, 71, 72, 100, 103, 104, 111, 112, 200, 511, 512, 65_535, 65_536, 131_072, 196_608,
    ])
    func `a file cut within its header or tables is refused with one sentence`(_ length: Int) async throws {
        try await withImage(isEncrypted: false) { image, _, directory in
            try Qcow2Editor(path: image.path).truncate(to: length)
            for arguments in [["serve", image.path, "--socket", directory.file("s")], ["info", image.path]] {
                Program.expectRefusal(try await Program.run(arguments), status: 65, saying: [image.path])
            }
            #expect(!File.exists(directory.file("s")))
        }
    }

    @Test(arguments: [1, 512, 1000, 65_536, 70_000, 2_000_000], [false, true])
    func `a file cut within its data gives errors where clusters are missing, and all else is right`(
        _ missing: Int, isEncrypted: Bool
    ) async throws {
        try await withImage(isEncrypted: isEncrypted) { image, contents, directory in
            let editor = Qcow2Editor(path: image.path)
            let length = Int(try File.size(image.path)) - missing
            try editor.truncate(to: length)
            // QEMU reads what is missing as zeros, and decrypts these to noise.
            let oracle = try await image.oracle(in: directory)
            try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
                server in
                let client = try LibNBDClient(server.uri)
                for guest in stride(from: 0, to: contents.count, by: Self.cluster) {
                    let present = min(try editor.hostOffset(of: guest), length).distance(to: length)
                    // The last cluster of a file may be short when it is not encrypted.
                    let readable =
                        present == 0 || present >= Self.cluster || !isEncrypted
                        ? min(present, 1) * Self.cluster : present / 512 * 512
                    if readable > 0 {
                        let found = try client.read(readable, at: guest)
                        #expect(Difference.describe(found, oracle[guest..<(guest + readable)], at: guest) == nil)
                    }
                    for lost in [readable, Self.cluster - 1] where readable < Self.cluster {
                        let error = #expect(throws: LibNBDClient.Failed.self) { try client.read(1, at: guest + lost) }
                        #expect(error?.errorNumber == EIO)
                    }
                }
            }
            let isPartial = isEncrypted && missing % Self.cluster != 0
            let isWhole = missing < Self.cluster && !isPartial
            let info = try await Program.run(["info", image.path])
            #expect(info.code == (isWhole ? 0 : 65), "\(info.errors)")
            if !isWhole {
                #expect(info.errors.contains(isPartial ? "the file has only" : "outside the file"), "\(info.errors)")
            }
        }
    }

    @Test func `nbdcopy and qemu-img notice that a cluster is missing`() async throws {
        try await withImage(isEncrypted: true) { image, _, directory in
            try Qcow2Editor(path: image.path).truncate(to: 2_000_000)
            try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
                server in
                let copy = directory.file("copy")
                for (program, arguments) in [
                    ("nbdcopy", [server.uri, copy]),
                    ("qemu-img", ["convert", "-f", "raw", "-O", "raw", server.uri, copy]),
                ] {
                    let outcome = try await Tool.run(program, arguments)
                    #expect(outcome.code == 1 && outcome.errors.contains("Input/output error"), "\(outcome.errors)")
                }
                try await server.expectError("outside the file's 2000000 bytes")
            }
        }
    }

    private func withImage(
        isEncrypted: Bool, _ body: (TestImage, Data, TemporaryDirectory) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let contents = DiskContents(mark: 0x77).bytes(at: 0, count: 4 << 20, .plain)
        let recipe = ImageRecipe(isEncrypted: isEncrypted, size: contents.count)
        try await body(try await ImageMaker(directory: directory).image(of: contents, recipe), contents, directory)
    }
}
