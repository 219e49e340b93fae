// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import TestSupport

/// Makes image files with qemu-img that stand on each other or are made of several files.
struct ShapeMaker {
    let directory: TemporaryDirectory

    /// An empty image.
    ///
    /// - Parameters:
    ///   - name: within the directory.
    ///   - backing: the name to write for the layer below, and its format.
    ///   - passphrase: each layer has its own when this is left out; the first 16 bytes are the key for AES.
    func create(
        _ kind: ShapeLayer.Kind, _ name: String, size: Int, options: [String] = [],
        backing: (name: String, format: String)? = nil, passphrase: String? = nil
    ) async throws -> ShapeLayer {
        var layer = ShapeLayer(kind: kind, path: directory.file(name))
        var options = options
        if kind.isEncrypted {
            layer.passphrasePath = try directory.write(
                "\(name.replacing("/", with: "-")).passphrase", text: passphrase ?? "\(name) is secret")
            let prefix = kind == .luks ? "" : "encrypt."
            options.append("\(prefix)key-secret=s")
            if kind == .luks || kind == .qcow2LUKS { options.append("\(prefix)iter-time=10") }
            if let encryption = kind.encryption { options.append("encrypt.format=\(encryption)") }
        }
        var arguments = ["create", "-q", "-f", kind.driver]
        arguments += layer.passphrasePath.map { ["--object", "secret,id=s,file=\($0)"] } ?? []
        if !options.isEmpty { arguments += ["-o", options.joined(separator: ",")] }
        if let backing { arguments += ["-u", "-b", backing.name] + ["-F", backing.format] }
        try await qemuImg(arguments + [layer.path, "\(size)"])
        return layer
    }

    /// Runs qemu-img in the directory until it succeeds: it measures the processor to choose the cost of a key, and fails
    /// when that goes wrong on a busy machine.
    private func qemuImg(_ arguments: [String]) async throws {
        let arguments = ["-C", directory.path, "qemu-img"] + arguments
        for _ in 1..<200 {
            let outcome = try await Tool.run("env", arguments)
            if outcome.code == 0 { return }
            guard outcome.errors.contains("accurate CPU usage") else { throw Tool.Failed(outcome) }
        }
        try await Tool.succeed("env", arguments)
    }

    /// Commands of qemu-io that write text to a part of a disk, so that no two places and no two marks look alike.
    func write(_ offset: Int, _ count: Int, mark: UInt8, _ texture: DiskContents.Texture = .plain) throws -> String {
        let bytes = DiskContents(mark: mark).bytes(at: offset, count: count, texture)
        let slice = try directory.write("slice-\(UInt32.random(in: 0...UInt32.max))", bytes)
        return "write -s \(slice) \(offset) \(count)"
    }

    /// Commands of qemu-io that leave a disk with clusters, and parts of clusters, of every kind.
    ///
    /// - Parameters:
    ///   - kind: of the layer that is written to.
    ///   - granularity: offsets and lengths are multiples of it, apart from the last.
    func mixture(
        _ kind: ShapeLayer.Kind, size: Int, clusterSize: Int, granularity: Int, seed: UInt64, count: Int = 16
    ) throws -> [String] {
        var generator = SeededGenerator(seed: seed)
        let mark = UInt8(truncatingIfNeeded: seed)
        var commands: [String] = []
        if kind.isQcow2, seed % 3 == 0, size > 6 * clusterSize {
            commands.append("write -c -P 0x\(mark % 9 + 1)3 \(4 * clusterSize) \(clusterSize)")
        }
        for index in 0..<count {
            let offset = generator.number(below: size / granularity) * granularity
            let limit = min(size - offset, max(3 * clusterSize, 96 << 10), 512 << 10) / granularity
            let length = limit == 0 ? size - offset : (generator.number(below: limit) + 1) * granularity
            switch index % 5 {
            case 0 where kind.isQcow2: commands.append("write -z \(offset) \(length)")
            case 1 where kind.isQcow2: commands.append("discard \(offset) \(length)")
            case 2: commands.append(try write(offset, length, mark: mark, .noise))
            default: commands.append(try write(offset, length, mark: mark))
            }
        }
        return commands
    }
}

extension ServerUnderTest {
    /// Where an export of this server is.
    func uri(of export: String) throws -> String {
        let path = export.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) ?? export
        return "nbd+unix:///\(path)?socket=\(socketPath ?? "")"
    }

    /// Reads a whole export in requests of several sizes, and compares it.
    func expect(
        _ contents: Data, at export: String = "", sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let contents = Data(contents)
        let client = try LibNBDClient(uri(of: export))
        try #require(client.size == contents.count, "\(export)", sourceLocation: sourceLocation)
        for step in [32 << 20, 99_991] {
            for start in stride(from: 0, to: contents.count, by: step) {
                let count = min(step, contents.count - start)
                let difference = Difference.describe(
                    try client.read(count, at: start), contents[start..<(start + count)], at: start)
                try #require(difference == nil, "\(export)", sourceLocation: sourceLocation)
            }
        }
    }

    /// Exactly these are offered.
    func expectExports(_ names: String..., sourceLocation: SourceLocation = #_sourceLocation) throws {
        #expect(try exports().keys.sorted() == names, sourceLocation: sourceLocation)
    }

    /// The names and descriptions of all exports.
    func exports() throws -> [String: String] { try LibNBDClient(uri, staysInNegotiation: true).exports() }
}

extension Program {
    /// Runs the program, whose last sentence must be a refusal; before it, it may tell which layers it has opened.
    static func expectEnd(
        _ arguments: [String], status: Int32, saying parts: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let outcome = try await run(arguments)
        let last = outcome.errors.split(separator: "\n").last.map(String.init) ?? ""
        #expect(outcome.code == status, "\(outcome.errors)", sourceLocation: sourceLocation)
        #expect(outcome.output.isEmpty, "standard output", sourceLocation: sourceLocation)
        for part in parts {
            #expect(last.contains(part), "'\(part)' in: \(outcome.errors)", sourceLocation: sourceLocation)
        }
    }
}
