// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What `serve` says at the end of what clients have read.
@Suite(.fewAtATime)
struct CoverageTests {
    private struct Report: Decodable {
        struct Disk: Decodable {
            let export: String
            let size, read, zeros, missing: UInt64
            let isComplete: Bool
            let missingRangeCount: Int
            let missingRanges, unreadableRanges: [Range]
        }

        struct Range: Decodable, Equatable {
            let offset, length: UInt64
        }

        let exports: [Disk]
    }

    /// Runs a command beside the server of a qcow2 image whose second and fourth MiB of four are data, and ends with what was
    /// written down.
    private func serve(
        _ command: String, _ options: [String] = [], losing: Int = 0
    ) async throws -> (outcome: Tool.Outcome, report: Report) {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let chain = ShapeChain(layers: [try await maker.create(.qcow2AES, "disk", size: 4 << 20)])
        try await chain.io([try maker.write(1 << 20, 1 << 20, mark: 1), try maker.write(3 << 20, 1 << 20, mark: 2)])
        if losing > 0 {
            try await Tool.succeed("truncate", ["--size", "\(try File.size(chain.path) - UInt64(losing))", chain.path])
        }
        let path = directory.file("coverage")
        let outcome = try await Program.run(
            ["serve", chain.path, "--coverage", path, "--run", "cd \(directory.path); \(command)"] + options
                + chain.ringArguments)
        return (outcome, try JSONDecoder().decode(Report.self, from: try File.contents(path)))
    }

    @Test(arguments: [
        #"nbdcopy "$uri" copy"#, #"nbdcopy -C 1 --no-extents "$uri" copy"#,
        #"qemu-img convert -f raw -O qcow2 "$uri" copy"#,
    ])
    func `who copies all of it is told so`(_ command: String) async throws {
        let (outcome, report) = try await serve(command, ["--require-complete"])
        #expect(outcome.code == 0, "\(outcome.errors)")
        let disk = try #require(report.exports.first)
        #expect(disk.isComplete && disk.missing == 0 && disk.missingRanges.isEmpty && disk.export.isEmpty)
        #expect(disk.read + disk.zeros == 4 << 20 && disk.read >= 2 << 20, "\(report)")
        #expect((disk.zeros == 0) == command.contains("--no-extents"))
        #expect(outcome.errors.contains("nbdecrypt: 100 % of 4,194,304 bytes read, "), "\(outcome.errors)")
    }

    @Test
    func `what nobody has read is told, by byte, and is an end of its own where all is required`() async throws {
        let command = #"qemu-io -r -f raw -c "read 0 1M" -c "read 1050000 100" -c "read 3M 512k" "$uri" > /dev/null"#
        let (outcome, report) = try await serve(command)
        #expect(outcome.code == 0)
        let disk = try #require(report.exports.first)
        #expect(!disk.isComplete && disk.missingRangeCount == disk.missingRanges.count)
        #expect(disk.read + disk.zeros + disk.missing == 4 << 20)
        // QEMU rounds what it reads to its blocks.
        #expect(disk.missingRanges.last == Report.Range(offset: 3 << 20 | 512 << 10, length: 512 << 10), "\(report)")
        #expect(outcome.errors.contains("nbdecrypt: incomplete: "), "\(outcome.errors)")
        #expect(outcome.errors.contains("never read (first at \(disk.missingRanges[0].offset), "), "\(outcome.errors)")
        let required = try await serve(command, ["--require-complete"]).outcome
        #expect(required.code == 2, "\(required.errors)")
        // A command that fails has its own status.
        let failed = try await serve("exit 7", ["--require-complete"]).outcome
        #expect(failed.code == 7)
        // Nobody has begun with it: there is nothing to say, but what is required.
        let untouched = try await serve("true", ["--require-complete"]).outcome
        #expect(untouched.code == 2 && !untouched.errors.contains("incomplete"), "\(untouched.errors)")
    }

    @Test
    func `what cannot be read is told apart`() async throws {
        let (outcome, report) = try await serve(#"qemu-io -r -f raw -c "read 0 4M" "$uri"; true"#, losing: 64 << 10)
        let disk = try #require(report.exports.first)
        #expect(!disk.isComplete && !disk.unreadableRanges.isEmpty, "\(report) \(outcome.errors)")
        #expect(outcome.errors.contains("could not be read"), "\(outcome.errors)")
    }

    @Test
    func `a file that cannot be written to is an error at the end`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let raw = try directory.write("disk", Data(count: 1 << 20))
        let outcome = try await Program.run(
            ["serve", "-f", "raw", raw, "--coverage", directory.file("no/where"), "--run", "true"])
        #expect(outcome.code == 74 && outcome.errors.contains("the coverage cannot be written"), "\(outcome.errors)")
    }
}
