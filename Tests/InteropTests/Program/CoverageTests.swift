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
            let digest, digestOmission: String?
            let digestBlockSize: UInt64?
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
        // Nobody has begun with it.
        let untouched = try await serve("true", ["--require-complete"]).outcome
        #expect(untouched.code == 2 && untouched.errors.contains("incomplete: 0 %"), "\(untouched.errors)")
    }

    @Test
    func `what cannot be read is told apart`() async throws {
        let (outcome, report) = try await serve(#"qemu-io -r -f raw -c "read 0 4M" "$uri"; true"#, losing: 64 << 10)
        let disk = try #require(report.exports.first)
        #expect(!disk.isComplete && !disk.unreadableRanges.isEmpty, "\(report) \(outcome.errors)")
        #expect(outcome.errors.contains("could not be read"), "\(outcome.errors)")
    }

    // MARK: Progress

    private struct Progress: Decodable {
        let phase: String
        let size, done, data, zeros, written: UInt64
    }

    /// The last line of JSON on standard error.
    private func progress(_ outcome: Tool.Outcome) throws -> Progress {
        let line = try #require(outcome.errors.split(separator: "\n").last { $0.hasPrefix("{") }, "\(outcome.errors)")
        return try JSONDecoder().decode(Progress.self, from: Data(line.utf8))
    }

    @Test func `what clients read is shown as it goes, each byte once`() async throws {
        let read = #"qemu-io -r -f raw -c "read 1M 512k" -c "read 1M 1M" -c "read 3M 512k" "$uri" > /dev/null"#
        let (outcome, report) = try await serve(read, ["--progress", "json"])
        let (shown, disk) = (try progress(outcome), try #require(report.exports.first))
        #expect(shown.phase == "serving" && shown.size == 4 << 20 && shown.written == 0)
        #expect(shown.done == disk.read + disk.zeros && shown.done == shown.data + shown.zeros, "\(shown) \(disk)")
        #expect(shown.data == 3 << 19, "\(shown)")
        // Copied in full, with zeros that are told.
        let copied = try progress(try await serve(#"nbdcopy "$uri" copy"#, ["--progress", "json"]).outcome)
        #expect(copied.done == 4 << 20 && copied.data >= 2 << 20, "\(copied)")
        let silent = try await serve(read).outcome
        #expect(!silent.errors.contains("serving"), "\(silent.errors)")
    }

    @Test func `on a terminal it is a map, with what clients have written`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let raw = try directory.write("disk", DiskContents(mark: 2).bytes(at: 0, count: 2 << 20, .noise))
        let write =
            #"qemu-io -d unmap -f raw -c "write 0 512k" -c "write 0 512k" -c "write -z 1M 256k" -c "discard 1536k 64k" "$uri""#
        let outcome = try await Program.run(
            ["serve", "-f", "raw", raw, "--writable", "--progress", "json", "--run", write])
        // What was written twice counts once, and what a client has given up counts as written.
        let written = try progress(outcome).written
        #expect(outcome.code == 0 && written == (512 + 256 + 64) << 10, "\(outcome.errors)")
        // A terminal of 80 columns, on which the map stands long enough to be drawn.
        let script = #"qemu-io -r -f raw -c "read 0 1M" "$uri"; sleep 1.2"#
        let shown = try await Tool.run(
            "script", ["-qec", "\(Program.path) serve -f raw \(raw) --progress auto --run '\(script)'", "/dev/null"])
        let map = shown.output.split(whereSeparator: \.isNewline).filter {
            $0.contains(String(repeating: "#", count: 60))
        }
        #expect(map.count >= 2 && shown.output.contains("serving: 50 % of 2.0 MiB"), "\(shown.output)")
    }

    // MARK: Digests

    /// What libnbd has received, in pieces of odd length in a random order, as Python hashes it.
    private static let shuffled = """
        import hashlib, random
        size, pieces = h.get_size(), list(range(0, h.get_size(), 70001))
        random.Random(5).shuffle(pieces)
        got = bytearray(size)
        for at in pieces:
            count = min(70001, size - at)
            got[at:at + count] = h.pread(count, at)
        blocks = [hashlib.sha256(got[i:i + 2**20]).digest() for i in range(0, size, 2**20)]
        print(hashlib.sha256(b"".join(blocks)).hexdigest(), flush=True)
        """

    @Test func `the digest of what clients have read in any order is theirs, and that of migrate`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let chain = ShapeChain(layers: [try await maker.create(.qcow2AES, "disk", size: 5 << 20 | 512)])
        try await chain.io([
            try maker.write(1 << 20, 1 << 20, mark: 1), try maker.write(3 << 20, 1 << 20 | 512, mark: 2, .noise),
        ])
        try directory.write("script", text: Self.shuffled)
        func serve(_ command: String) async throws -> (Tool.Outcome, Report.Disk) {
            try? FileManager.default.removeItem(atPath: directory.file("coverage"))
            let outcome = try await Program.run(
                ["serve", chain.path, "--digest", "sha256", "--coverage", directory.file("coverage")]
                    + ["--run", "cd \(directory.path); \(command)"] + chain.ringArguments)
            let report = try JSONDecoder().decode(Report.self, from: File.contents(directory.file("coverage")))
            return (outcome, try #require(report.exports.first))
        }
        // A Python that somebody has put into the path knows nothing of Debian's modules.
        let shell = #"PATH=/usr/bin:/bin /usr/bin/nbdsh -u "$uri" -c - < script"#
        let (outcome, disk) = try await serve(shell)
        let oracle = outcome.output.trimmingCharacters(in: .whitespacesAndNewlines)
        #expect(outcome.code == 0 && oracle.count == 64, "\(outcome.errors)")
        #expect(disk.digest == oracle && disk.digestBlockSize == 1 << 20 && disk.digestOmission == nil, "\(disk)")
        #expect(outcome.errors.contains("nbdecrypt: SHA-256 \(oracle) ("), "\(outcome.errors)")

        // Many connections, and zeros that are told instead of read.
        let copied = try await serve(#"nbdcopy -C 4 --request-size=65536 "$uri" copy"#).1
        #expect(copied.digest == oracle && copied.zeros > 0, "\(copied)")
        let migrated = try await Program.run(
            ["migrate", chain.path, directory.file("new.raw")] + chain.ringArguments)
        #expect(migrated.code == 0 && migrated.output.contains(oracle), "\(migrated.output)")

        let part = try await serve(#"PATH=/usr/bin:/bin /usr/bin/nbdsh -u "$uri" -c 'h.pread(1000000, 0)'"#)
        #expect(part.1.digest == nil && part.1.digestOmission != nil)
        #expect(part.0.errors.contains("nbdecrypt: no SHA-256: not all of the disk was read"), "\(part.0.errors)")

        // One byte of the disk is another.
        try await chain.io([try maker.write(2 << 20, 512, mark: 3)])
        let (other, changed) = try await serve(shell)
        #expect(changed.digest == other.output.trimmingCharacters(in: .whitespacesAndNewlines))
        #expect(changed.digest != oracle)
    }

    @Test(arguments: ["--writable", "--overlay"])
    func `a disk that clients may change has no digest`(_ option: String) async throws {
        let outcome = try await Program.run(["serve", "x", "--digest", "sha256", option])
        #expect(outcome.code == 64 && outcome.errors.contains("a disk that is only read"), "\(outcome.errors)")
    }

    @Test
    func `a file that cannot be made is refused at the start, and nothing is overwritten`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let content = Data(repeating: 0x41, count: 1 << 20)
        let raw = try directory.write("disk", content)
        try FileManager.default.createSymbolicLink(atPath: directory.file("link"), withDestinationPath: raw)
        for (path, reason) in [
            (directory.file("no/where"), "make that directory"), (raw, "exists, and nothing is overwritten"),
            (directory.file("link"), "exists, and nothing is overwritten"),
        ] {
            try await Program.expectRefusal(
                ["serve", "-f", "raw", raw, "--coverage", path, "--run", "true"], status: 74, saying: reason)
        }
        #expect(try File.contents(raw) == content)
    }

    @Test
    func `a client that reads nothing is told of, when somebody wants to know`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let raw = try directory.write("disk", Data(count: 1 << 20))
        let quiet = try await Program.run(["serve", "-f", "raw", raw, "--run", "true"])
        #expect(quiet.code == 0 && !quiet.errors.contains("incomplete"), "\(quiet.errors)")
        let asked = try await Program.run(
            ["serve", "-f", "raw", raw, "--require-complete", "--digest", "sha256", "--run", "true"])
        #expect(asked.code == 2 && asked.errors.contains("incomplete: 0 % of 1,048,576 bytes read"), "\(asked.errors)")
        #expect(asked.errors.contains("no SHA-256: not all of the disk was read"), "\(asked.errors)")
    }
}
