// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `migrate --snapshots`: each internal snapshot becomes an image of its own, as QEMU reads it.
@Suite(.fewAtATime)
struct MigratedSnapshotTests {
    private struct Report: Decodable {
        struct Snapshot: Decodable {
            let id, name, new, digest: String
            let digestOfCopy: String?
            let size, vmStateSize: UInt64
        }

        let digest: String
        let snapshots: [Snapshot]
    }

    /// An image with snapshots of one name twice, of names that are no file names, and of another size than it has now.
    private func make(in directory: TemporaryDirectory) async throws -> ShapeChain {
        let maker = ShapeMaker(directory: directory)
        let chain = ShapeChain(layers: [try await maker.create(.qcow2AES, "old.qcow2", size: 2 << 20)])
        func snapshot(_ name: String) async throws {
            try await Tool.succeed("qemu-img", ["snapshot", "-q"] + chain.objectArguments + ["-c", name, chain.name])
        }
        try await chain.io([try maker.write(0, 200 << 10, mark: 1)])
        try await snapshot("before")
        try await chain.io([try maker.write(1 << 20, 64 << 10, mark: 2), "write -z 0 64k"])
        try await Tool.succeed("qemu-img", ["resize", "-q"] + chain.objectArguments + [chain.name, "3M"])
        try await snapshot("before")
        try await chain.io([try maker.write(2 << 20, 1 << 20, mark: 3)])
        try await snapshot("../a b\u{1B}[31m-ж")
        try await snapshot(String(repeating: "long ", count: 30))
        try await chain.io([try maker.write(512 << 10, 64 << 10, mark: 4)])
        return chain
    }

    /// Says that a snapshot holds the state of a machine, which only a running one could make.
    private func addState(_ size: UInt64, to path: String) throws {
        let editor = Qcow2Editor(path: path)
        // The first entry: 40 bytes, then what is extra, of which the size of the state is the first.
        let entry = Int(try editor.long(at: 64))
        try #require(try editor.word(at: entry + 36) >= 16)
        try editor.set(size, at: entry + 40)
    }

    @Test
    func `every snapshot is the same in its new image, whatever it is called and however large it was`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let chain = try await make(in: directory)
        var disks: [Data] = []
        for id in 1...4 {
            let raw = directory.file("oracle")
            try await Tool.succeed(
                "qemu-img",
                ["convert"] + chain.objectArguments + ["-l", "snapshot.id=\(id)", "-O", "raw", chain.name, raw])
            // QEMU shows it as long as the image is now; what it was then is its start.
            disks.append(try File.contents(raw).prefix(id == 1 ? 2 << 20 : 3 << 20))
        }
        try addState(123 << 20, to: chain.path)
        let secret = try directory.write("new", text: "new secret")
        let arguments =
            ["migrate", chain.path, directory.file("new.qcow2"), "--new-passphrase-file", secret, "--iter-time", "10"]
            + chain.ringArguments
        let outcome = try await Program.run(arguments + ["--snapshots", "--json"])
        try #require(outcome.code == 0, "\(outcome.errors)")
        let report = try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
        #expect(report.snapshots.map(\.vmStateSize) == [123 << 20, 0, 0, 0])
        #expect(report.snapshots.map(\.id) == ["1", "2", "3", "4"])
        let long = "long_long_long_long_long_long_long_long_long_long_long_long_long_long_long_long_"
        #expect(
            report.snapshots.map(\.new)
                == ["1-before", "2-before", "3-.._a_b__31m-ж", "4-\(long)"].map {
                    directory.file("new.snapshot-\($0).qcow2")
                })
        for (snapshot, disk) in zip(report.snapshots, disks) {
            let raw = directory.file("found")
            try await Tool.succeed(
                "qemu-img",
                ["convert", "--object", "secret,id=s,file=\(secret)", "-O", "raw", "--image-opts"]
                    + ["driver=qcow2,file.filename=\(snapshot.new),encrypt.format=luks,encrypt.key-secret=s", raw])
            let found = try File.contents(raw)
            #expect(Difference.describe(found, Data(disk)) == nil, "\(snapshot.name)")
            #expect(snapshot.size == UInt64(disk.count) && snapshot.digest == snapshot.digestOfCopy)
            #expect(try File.mode(snapshot.new) == 0o600)
        }
        #expect(Set(report.snapshots.map(\.digest) + [report.digest]).count == 4, "the last two are the same")
        let left = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        #expect(left.count { $0.hasPrefix("new.") } == 5 && !left.contains { $0.hasSuffix(".partial") }, "\(left)")

        // For people: what is not copied is said, and no snapshot writes to the terminal.
        let text = try await Program.run(
            Array(arguments.prefix(2)) + [directory.file("other.raw"), "--snapshots"] + chain.ringArguments)
        #expect(text.code == 0 && text.output.contains("the state of the machine (123"), "\(text.errors)")
        #expect(!text.output.contains("\u{1B}"))
        #expect(try File.size(directory.file("other.snapshot-1-before.raw")) == 2 << 20)
        let without = try await Program.run(
            Array(arguments.prefix(2)) + [directory.file("one.raw")] + chain.ringArguments)
        #expect(without.output.contains("4 of the old image are not copied; --snapshots"), "\(without.output)")
    }

    @Test func `one snapshot that fails leaves none of the new images, and no file is overwritten`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let chain = try await make(in: directory)
        let arguments =
            ["migrate", chain.path, directory.file("new"), "--to", "raw", "--snapshots"] + chain.ringArguments
        func left() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: directory.path).filter { $0.hasPrefix("new") }
        }
        // The first has 2 MiB, the others have 3.
        let full = try await Tool.run("prlimit", ["--fsize=2500000:unlimited", Program.path] + arguments)
        #expect(full.code == 74, "\(full.errors)")
        #expect(try left() == [])
        try directory.write("new.snapshot-2-before", text: "mine")
        try await Program.expectEnd(arguments, status: 74, saying: "new.snapshot-2-before exists")
        #expect(try left() == ["new.snapshot-2-before"])
        #expect(try File.text(directory.file("new.snapshot-2-before")) == "mine")
        // A name that no file can have until it is complete.
        let name = directory.file(String(repeating: "n", count: 245))
        let long = try await Program.run(["migrate", chain.path, name, "--to", "raw", "--snapshots"])
        #expect(long.code == 64 && long.errors.contains("name a shorter one"), "\(long.errors)")
    }

    @Test func `with another choice of what to copy it is refused`() async throws {
        for more in [["--snapshot", "s"], ["--offset", "1M"], ["--logical-volume", "a/b"]] {
            let outcome = try await Program.run(["migrate", "old", "new", "--snapshots"] + more)
            #expect(outcome.code == 64 && outcome.errors.contains("whole image"), "\(more): \(outcome.errors)")
        }
        let list = try await Program.run(
            ["migrate", "--list", "l", "--to", "raw", "--output-dir", "d", "--snapshots"])
        #expect(list.code == 64 && list.errors.contains("not for --list"), "\(list.errors)")
    }
}
