// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Sizes and headers that QEMU's tools do not make every day.
@Suite(.fewAtATime)
struct OddImageTests {
    @Test(arguments: [1, 511, 512, 513, 65_535, 65_536, 65_537, 1_000_000, 2_097_151], [false, true])
    func `a disk ends at the last whole sector of the header's size, as in QEMU`(_ size: Int, isEncrypted: Bool)
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let rounded = (size + 511) / 512 * 512
        let recipe = ImageRecipe(isEncrypted: isEncrypted, size: rounded)
        let disk = DiskContents(mark: 3).bytes(at: 0, count: rounded, .plain)
        let image = try await ImageMaker(directory: directory).image(of: disk, recipe)
        try Qcow2Editor(path: image.path).set(UInt64(size), at: 24)
        let oracle = size < 512 ? Data() : try await image.oracle(in: directory)
        #expect(oracle.count == size / 512 * 512)
        try await ServerUnderTest.run(
            image.serveArguments + ["--socket", directory.file("s")], in: directory
        ) { server in
            try server.expectContents(oracle)
            try await ClientTools(server: server, oracle: oracle, directory: directory).nbdcopy()
        }
        let report = try await InfoReport.of(image.path)
        #expect(report.virtualSize == UInt64(oracle.count))
        #expect(report.headerSize == (size % 512 == 0 ? nil : UInt64(size)))
    }

    @Test(arguments: [1, 511, 513, 1_000_001])
    func `a raw file of any size is served to its last byte`(_ size: Int) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = DiskContents(mark: 4).bytes(at: 0, count: size, .noise)
        let path = try directory.write("disk.raw", disk)
        try await ServerUnderTest.run(
            ["serve", "-f", "raw", path, "--socket", directory.file("s")], in: directory
        ) { server in
            try server.expectContents(disk)
            // Not by QEMU 7.2, whose client does not end well on every disk of such a size.
            let tools = ClientTools(server: server, oracle: disk, directory: directory)
            try await tools.nbdcopy()
            try await tools.nbdinfo()
        }
    }

    @Test func `a version 3 header of 104 bytes, as older programs write it, is read`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let recipe = ImageRecipe(size: 1 << 20)
        let disk = DiskContents(mark: 5).bytes(at: 0, count: 1 << 20, .noise)
        let image = try await ImageMaker(directory: directory).image(of: disk, recipe)
        // The 8 bytes after it, zeros, become the end of the extensions.
        try Qcow2Editor(path: image.path).set(UInt32(104), at: 100)
        try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
            server in
            try server.expectContents(disk)
        }
    }

    @Test(arguments: [(1, "dirty"), (2, "corrupt")] as [(UInt64, String)])
    func `an image that was not closed properly is served, with a warning`(_ bit: UInt64, _ name: String) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = DiskContents(mark: 6).bytes(at: 0, count: 1 << 20, .plain)
        let image = try await ImageMaker(directory: directory).image(of: disk, ImageRecipe(size: 1 << 20))
        let before = try Qcow2Editor(path: image.path).long(at: 72)
        try Qcow2Editor(path: image.path).set(before | bit, at: 72)
        let contents = try Data(contentsOf: URL(fileURLWithPath: image.path))
        try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
            server in
            #expect(try server.errors.contains("nbdecrypt: warning: the image has its \(name) bit set"))
            try server.expectContents(disk)
        }
        #expect(try File.contents(image.path) == contents, "the image is as it was")
        #expect(try await InfoReport.of(image.path).features?.incompatible == ["\(name) bit"])
    }

    @Test func `persistent bitmaps do no harm`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = DiskContents(mark: 7).bytes(at: 0, count: 1 << 20, .plain)
        let image = try await ImageMaker(directory: directory).image(of: disk, ImageRecipe(size: 1 << 20))
        try await Tool.succeed("qemu-img", ["bitmap", "--add", image.path, "b"])
        try await ServerUnderTest.run(image.serveArguments + ["--socket", directory.file("s")], in: directory) {
            server in
            try server.expectContents(disk)
        }
        #expect(try await InfoReport.of(image.path).features?.autoclear == ["bitmaps"])
    }
}
