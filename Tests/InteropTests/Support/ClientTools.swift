// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Testing

/// The NBD clients that people use, as programs.
struct ClientTools {
    let server: ServerUnderTest
    /// What they should read.
    let oracle: Data
    let directory: TemporaryDirectory

    /// Part of the output of `nbdinfo --json`.
    private struct NBDInfo: Decodable {
        struct Export: Decodable {
            let size: Int
            let isReadOnly, canFlush, canMultiConn, canTrim, canZero, canFUA: Bool
            let minimum, preferred, maximum: Int

            enum CodingKeys: String, CodingKey {
                case size = "export-size"
                case isReadOnly = "is_read_only"
                case canFlush = "can_flush"
                case canMultiConn = "can_multi_conn"
                case canTrim = "can_trim"
                case canZero = "can_zero"
                case canFUA = "can_fua"
                case minimum = "block_size_minimum"
                case preferred = "block_size_preferred"
                case maximum = "block_size_maximum"
            }
        }

        let `protocol`: String
        let exports: [Export]
    }

    /// Lets all of them read; `count` bytes at `place` are known to be `marker`.
    func readAll(marker: Int, at place: Int, count: Int) async throws {
        try await nbdcopy()
        try await qemuConvert()
        try await qemuCompare()
        try await qemuIO(marker: marker, at: place, count: count)
        try await nbdinfo()
    }

    func nbdcopy() async throws {
        let copy = directory.file("nbdcopy.raw")
        try await Tool.succeed("nbdcopy", [server.uri, copy])
        #expect(Difference.describe(try File.contents(copy), oracle) == nil, "nbdcopy")
        try FileManager.default.removeItem(atPath: copy)
    }

    func qemuConvert() async throws {
        let copy = directory.file("converted.raw")
        try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", "raw", server.uri, copy])
        // QEMU works in sectors: what ends within one is filled with zeros.
        let padded = oracle + Data(count: (512 - oracle.count % 512) % 512)
        #expect(Difference.describe(try File.contents(copy), padded) == nil, "qemu-img convert")
        try FileManager.default.removeItem(atPath: copy)
    }

    func qemuCompare() async throws {
        let copy = try directory.write("compared.raw", oracle)
        try await Tool.succeed("qemu-img", ["compare", "-f", "raw", "-F", "raw", server.uri, copy])
        try FileManager.default.removeItem(atPath: copy)
    }

    func qemuIO(marker: Int, at place: Int, count: Int) async throws {
        let output = try await Tool.succeed(
            "qemu-io",
            [
                "-r", "-f", "raw", server.uri, "-c", "read -P \(marker) \(place) \(count)",
                "-c", "read -v \(place - 256) 512",
            ])
        #expect(!output.contains("verification failed"))
        // Lines like "00000100:  5a 5a … 5a  ZZZZ".
        let dump = output.split(separator: "\n").compactMap { line -> String? in
            let fields = line.split(separator: " ", omittingEmptySubsequences: true)
            guard fields.first?.hasSuffix(":") == true, fields.count >= 17 else { return nil }
            return fields[1...16].joined()
        }.joined()
        let expected = oracle[(place - 256)..<(place + 256)].hexadecimal()
        #expect(dump == expected, "qemu-io")
        // A pattern that is not there must be noticed, or the check above is worth nothing.
        let wrong = try await Tool.run(
            "qemu-io", ["-r", "-f", "raw", server.uri, "-c", "read -P \(marker + 1) \(place) \(count)"])
        #expect(wrong.output.contains("verification failed"))
    }

    func nbdinfo() async throws {
        let text = try await Tool.succeed("nbdinfo", ["--json", server.uri])
        let info = try JSONDecoder().decode(NBDInfo.self, from: Data(text.utf8))
        let export = try #require(info.exports.first)
        #expect(info.protocol == "newstyle-fixed")
        #expect(export.size == oracle.count)
        #expect(export.isReadOnly && export.canFlush && export.canMultiConn)
        #expect(!export.canTrim && !export.canZero && !export.canFUA)
        #expect(export.minimum == 1 && export.preferred == 4096 && export.maximum == 32 << 20)
        #expect(try await Tool.succeed("nbdinfo", ["--size", server.uri]) == "\(oracle.count)\n")
    }
}
