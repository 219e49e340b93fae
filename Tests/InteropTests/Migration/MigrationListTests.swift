// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Testing

@testable import nbdecrypt

/// `migrate --list`: many images, whatever becomes of some of them.
@Suite(.fewAtATime)
struct MigrationListTests {
    private struct Report: Decodable {
        struct Image: Decodable {
            let old, new, state: String
            let digest, reason: String?
        }

        let images: [Image]
        let failureCount: Int
    }

    /// Some AES images of different sizes with a passphrase each, and the list of them; the last one has a wrong passphrase.
    private struct Images {
        let directory: TemporaryDirectory
        var disks: [Data] = []
        let count = 4

        init() async throws {
            directory = try TemporaryDirectory()
            let maker = ShapeMaker(directory: directory)
            try FileManager.default.createDirectory(
                atPath: directory.file("images"), withIntermediateDirectories: true)
            var list = "# image, secret\n\n"
            for index in 0..<count {
                let layer = try await maker.create(.qcow2AES, "images/\(index).img", size: (2 + index) << 20)
                let chain = ShapeChain(layers: [layer])
                try await chain.io([try maker.write(index << 20, 1 << 20, mark: UInt8(index + 1))])
                disks.append(try await chain.oracle(in: directory))
                let secret = try directory.write("secret\(index)", try File.contents(#require(layer.passphrasePath)))
                list += "images/\(index).img\tpassphrase-file:\((secret as NSString).lastPathComponent)\n"
            }
            try directory.write("list", text: list)
            try directory.write("new", text: "new secret")
            // Its own comes back later.
            try await Tool.shell("cd \(directory.path); mv secret3 right; printf wrong > secret3")
        }

        func run(_ more: [String] = [], program: [String] = []) async throws -> Tool.Outcome {
            let arguments =
                program + [try Program.path, "migrate", "--list", directory.file("list"), "--to", "qcow2-luks"]
                + ["--output-dir", directory.file("out"), "--new-passphrase-file", directory.file("new")]
                + ["--iter-time", "10"] + more
            return try await Tool.run(arguments[0], Array(arguments.dropFirst()))
        }

        /// Is a new image what QEMU reads of the old one?
        func expectCopy(_ index: Int, sourceLocation: SourceLocation = #_sourceLocation) async throws {
            let raw = directory.file("found")
            try await Tool.succeed(
                "qemu-img",
                ["convert", "--object", "secret,id=s,file=\(directory.file("new"))", "-O", "raw", "--image-opts"]
                    + [
                        "driver=qcow2,file.filename=\(directory.file("out/\(index).qcow2")),encrypt.format=luks,encrypt.key-secret=s"
                    ]
                    + [raw])
            let found = try File.contents(raw)
            #expect(Difference.describe(found, disks[index]) == nil, "\(index)", sourceLocation: sourceLocation)
        }
    }

    @Test func `one that fails stops no other, and a second run goes on where the first has ended`() async throws {
        let images = try await Images()
        defer { images.directory.remove() }
        let first = try await images.run(["--jobs", "2", "--json"])
        #expect(first.code == 1, "\(first.errors)")
        let report = try JSONDecoder().decode(Report.self, from: Data(first.output.utf8))
        #expect(report.images.map(\.state) == ["copied", "copied", "copied", "failed"] && report.failureCount == 1)
        #expect(report.images[3].reason?.contains("does not fit") ?? false, "\(report)")
        for index in 0..<3 { try await images.expectCopy(index) }
        #expect(!File.exists(images.directory.file("out/3.qcow2")))

        // Read again, the first would not be what it was.
        try await Tool.shell(
            """
            cd \(images.directory.path); cp right secret3
            cp -p images/0.img times; head -c $(stat -c %s images/0.img) /dev/urandom > images/0.img; touch -r times images/0.img
            """)
        let second = try await images.run()
        #expect(second.code == 0, "\(second.errors)")
        #expect(second.output.contains("1 copied, 3 complete before, 0 failed"), "\(second.output)")
        try await images.expectCopy(0)
        try await images.expectCopy(3)

        // One that has changed since is not what was copied; and what is there is not overwritten.
        try await Tool.shell("cd \(images.directory.path); cp times images/0.img; rm out/1.qcow2")
        let third = try await images.run(["--json"])
        #expect(third.code == 1, "\(third.errors)")
        let last = try JSONDecoder().decode(Report.self, from: Data(third.output.utf8))
        #expect(last.images.map(\.state) == ["failed", "copied", "before", "before"])
        #expect(last.images[0].reason?.contains("nothing is overwritten") ?? false, "\(last)")
        try await images.expectCopy(1)
    }

    @Test func `a run that was killed is gone on with, and what it has left is replaced`() async throws {
        let images = try await Images()
        defer { images.directory.remove() }
        try await Tool.shell("cd \(images.directory.path); cp right secret3")
        var killed = 0
        for tenths in [1, 3, 5, 8, 12] {
            let outcome = try await images.run(program: ["timeout", "-s", "KILL", "0.\(tenths)"])
            if outcome.code != 0 { killed += 1 }
        }
        let outcome = try await images.run()
        #expect(outcome.code == 0, "after \(killed): \(outcome.errors)")
        for index in 0..<images.count { try await images.expectCopy(index) }
        let left = try FileManager.default.contentsOfDirectory(atPath: images.directory.file("out"))
        #expect(left.count == images.count + 1 && !left.contains { $0.hasSuffix(".partial") }, "\(left)")
    }

    @Test func `a run that was killed when a copy just had its name knows it as its own, and no other file`()
        async throws
    {
        let images = try await Images()
        defer { images.directory.remove() }
        try await Tool.shell("cd \(images.directory.path); cp right secret3")
        #expect(try await images.run().code == 0)
        // As the record is then: of all images, what was to be written last is missing.
        let record = images.directory.file("out/nbdecrypt-migrate.jsonl")
        let lines = try File.text(record).split(separator: "\n").filter { !$0.contains(#""complete""#) }
        #expect(lines.filter { $0.contains(#""ready""#) }.count == images.count)
        func forget() throws {
            try images.directory.write("out/nbdecrypt-migrate.jsonl", text: lines.joined(separator: "\n"))
        }
        try forget()
        let second = try await images.run()
        #expect(second.code == 0 && second.output.contains("0 copied, 4 complete before, 0 failed"), "\(second.output)")

        try forget()
        try await Tool.shell("cd \(images.directory.path)/out; cp 1.qcow2 other; mv other 1.qcow2")
        let third = try await images.run()
        #expect(
            third.code == 1 && third.errors.contains("1.qcow2 exists, and nothing is overwritten"), "\(third.errors)")
    }

    @Test func `what somebody else has begun is never replaced, however often it is tried`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try directory.write("old.img", Data(count: 1 << 20))
        let list = try directory.write("list", text: "old.img\n")
        try FileManager.default.createDirectory(atPath: directory.file("out"), withIntermediateDirectories: true)
        let arguments = ["migrate", "-f", "raw", "--list", list, "--to", "raw", "--output-dir", directory.file("out")]
        let partial = try directory.write("out/old.raw.partial", text: "theirs")
        for _ in 0..<3 {
            let outcome = try await Program.run(arguments)
            #expect(outcome.code == 1 && outcome.errors.contains("old.raw.partial exists"), "\(outcome.errors)")
            #expect(try File.text(partial) == "theirs")
        }
        // A copy that has failed leaves nothing, and what is there later is not its own.
        try FileManager.default.removeItem(atPath: partial)
        let full = try await Tool.run("prlimit", ["--fsize=65536:unlimited", Program.path] + arguments)
        #expect(full.code == 1 && !File.exists(partial), "\(full.errors)")
        try directory.write("out/old.raw.partial", text: "theirs")
        #expect(try await Program.run(arguments).code == 1)
        #expect(try File.text(partial) == "theirs")
        try FileManager.default.removeItem(atPath: partial)
        #expect(try await Program.run(arguments).code == 0)
    }

    @Test func `lines end as on Windows too, and names have spaces`() throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let odd = "c key-file:k"
        try directory.write(odd, text: "")
        let path = try directory.write("list", text: "# x\r\na b.img\tkey-file:k\r\n\r\nd.img\r\n\(odd)\r\n")
        let jobs = try MigrationList(path, directory: "out", format: .raw, common: SecretPlaces()).jobs
        #expect(jobs.map(\.new) == ["out/a b.raw", "out/d.raw", "out/c key-file:k.raw"])
        #expect(jobs.map(\.source.name) == ["a b.img", "d.img", odd].map { directory.file($0) })
        #expect(jobs[0].secrets.all.map(\.name) == ["the key file \(directory.file("k"))"])
        // What has no tab has no secret of its own.
        #expect(jobs[1].secrets.isEmpty && jobs[2].secrets.isEmpty)
    }

    @Test func `a list that makes no sense is refused with its line, before anything is made`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let out = directory.file("out")
        func refuse(_ list: String, _ parts: String..., status: Int32 = 64) async throws {
            let path = try directory.write("list", text: list)
            let outcome = try await Program.run(["migrate", "--list", path, "--to", "raw", "--output-dir", out])
            Program.expectRefusal(outcome, status: status, saying: parts)
            #expect(!File.exists(out))
        }
        try await refuse("a.img\n\nb/a.qcow2\n", "line 3", "line 1")
        try await refuse("a.img\tsecret\n", "line 1", "passphrase-file:PATH")
        try await refuse("a.img\tfd:3\n", "line 1", "passphrase-file:PATH")
        try await refuse("a.img\tkey-file:k\tmore\n", "line 1")
        try await refuse("a.img  hex:key-file:k\n", "line 1", "there is a space, and it takes a tab")
        try await refuse("# nothing\n", "there is no image in it")
        for arguments in [
            ["--list", "l", "--to", "raw"], ["--list", "l", "--output-dir", "d"], ["a", "b", "--jobs", "2"],
        ] {
            let outcome = try await Program.run(["migrate"] + arguments)
            #expect(outcome.code == 64, "\(arguments): \(outcome.errors)")
        }
    }
}
