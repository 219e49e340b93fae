// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Foundation
import ImageFormats
import Subprocess
import TestSupport
import Testing

/// What kind of image a test writes to; qemu-img makes it.
struct Qcow2Shape: CustomTestStringConvertible, Sendable {
    enum Encryption: String, CaseIterable { case none, aes, luks }
    enum Variant: String, CaseIterable {
        case plain, backing, snapshot, compressed, extendedL2, dataFile, rawDataFile, version2, version2Backing
    }

    var clusterSize: Int
    var encryption = Encryption.none
    var refcountBits = 16
    var variant = Variant.plain

    var testDescription: String { "\(variant), \(encryption), clusters of \(clusterSize), \(refcountBits) bits" }

    /// In bytes; not whole clusters.
    var diskSize: Int {
        switch clusterSize {
        case ..<4096: 160 * 1024 + 512
        case ..<16384: 2_500 * 1024 + 1536
        case 16384: 20 * clusterSize + 2560
        case ..<(1 << 20): 96 * clusterSize + 2560
        default: 9 * clusterSize + 2560
        }
    }

    var hasBacking: Bool { variant == .backing || variant == .version2Backing }
    var hasDataFile: Bool { variant == .dataFile || variant == .rawDataFile }
    var isVersion2: Bool { variant == .version2 || variant == .version2Backing }

    /// Is the data file, read alone, the disk?
    var hasRawView: Bool { variant == .rawDataFile && encryption == .none }

    /// Can qemu-img make it?
    var isPossible: Bool {
        switch variant {
        case .extendedL2: clusterSize >= 16384
        case .snapshot: refcountBits > 1
        case .version2, .version2Backing: refcountBits == 16
        case .plain, .backing, .compressed, .dataFile, .rawDataFile: true
        }
    }
}

extension Qcow2Shape {
    /// Every variant and encryption, and the pairs of them in which sectors have numbers of another kind, with little to copy:
    /// for tests that go through many states of the files.
    static let small = [
        Qcow2Shape(clusterSize: 512), Qcow2Shape(clusterSize: 512, refcountBits: 1),
        Qcow2Shape(clusterSize: 1024, encryption: .luks),
        Qcow2Shape(clusterSize: 512, encryption: .aes, refcountBits: 64, variant: .snapshot),
        Qcow2Shape(clusterSize: 1024, encryption: .luks, variant: .snapshot),
        Qcow2Shape(clusterSize: 512, variant: .compressed),
        Qcow2Shape(clusterSize: 512, encryption: .aes, variant: .compressed),
        Qcow2Shape(clusterSize: 1024, refcountBits: 64, variant: .backing),
        Qcow2Shape(clusterSize: 1024, encryption: .luks, variant: .backing),
        Qcow2Shape(clusterSize: 512, variant: .version2Backing),
        Qcow2Shape(clusterSize: 512, encryption: .aes, variant: .version2),
        Qcow2Shape(clusterSize: 16384, variant: .extendedL2),
        Qcow2Shape(clusterSize: 16384, encryption: .luks, variant: .extendedL2),
        Qcow2Shape(clusterSize: 512, variant: .dataFile),
        Qcow2Shape(clusterSize: 1024, encryption: .luks, variant: .dataFile),
        Qcow2Shape(clusterSize: 512, variant: .rawDataFile),
    ]
}

/// An image that qemu-img has made, its files in memory.
struct Qcow2TestImage {
    static let passphrase = "open sesame"

    let shape: Qcow2Shape
    let bytes: [UInt8]
    let dataFile: [UInt8]?
    let backing: [UInt8]?
    /// Where qemu-img looks for the other files.
    let directory: URL

    /// Makes an image with some data in it.
    ///
    /// - Parameter finish: what else is done to the file, by its path.
    init(
        _ shape: Qcow2Shape, seed: UInt64, finish: (String) async throws -> Void = { _ in }
    ) async throws {
        self.shape = shape
        directory = FileManager.default.temporaryDirectory.appending(path: "nbdecrypt-qcow2-\(UUID())")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        var random = SeededGenerator(seed: seed)
        let file = directory.appending(path: "image").path
        var options = ["cluster_size=\(shape.clusterSize)", "refcount_bits=\(shape.refcountBits)"]
        options.append(shape.isVersion2 ? "compat=0.10" : "compat=1.1")
        if shape.encryption != .none { options += ["encrypt.format=\(shape.encryption)", "encrypt.key-secret=s"] }
        if shape.encryption == .luks { options.append("encrypt.iter-time=1") }
        if shape.variant == .extendedL2 { options.append("extended_l2=on") }
        if shape.hasDataFile { options.append("data_file=\(directory.appending(path: "data").path)") }
        if shape.variant == .rawDataFile { options.append("data_file_raw=on") }
        var arguments = ["create", "-q", "-f", "qcow2"] + Self.secret(shape) + ["-o", options.joined(separator: ",")]
        if shape.hasBacking {
            // It ends within a cluster of the image.
            let bytes = (0..<(shape.diskSize * 3 / 4 + 700) / 512 * 512).map { UInt8(truncatingIfNeeded: $0 / 512 + 7) }
            try Data(bytes).write(to: directory.appending(path: "base"))
            arguments += ["-b", directory.appending(path: "base").path, "-F", "raw"]
            backing = bytes
        } else {
            backing = nil
        }
        try await Self.run("qemu-img", arguments + [file, "\(shape.diskSize)"])
        try await Self.prepare(shape, file, &random)
        try await finish(file)
        bytes = [UInt8](try Data(contentsOf: directory.appending(path: "image")))
        dataFile = shape.hasDataFile ? [UInt8](try Data(contentsOf: directory.appending(path: "data"))) : nil
    }

    /// Has QEMU write to the disk, which is where a test begins.
    private static func prepare(
        _ shape: Qcow2Shape, _ file: String, _ random: inout SeededGenerator
    ) async throws {
        func write(_ count: Int) async throws {
            var commands: [String] = []
            // First: QEMU compresses into clusters that are not allocated.
            if shape.variant == .compressed {
                for cluster in [1, 2, 4, 5] {
                    commands += [
                        "-c", "write -c -P \(cluster + 100) \(cluster * shape.clusterSize) \(shape.clusterSize)",
                    ]
                }
            }
            for number in 0..<count {
                let (offset, length) = random.sectors(of: shape.diskSize, upTo: 3 * shape.clusterSize)
                commands += ["-c", "write -P \(number + 1 + count) \(offset) \(length)"]
            }
            if !shape.isVersion2 { commands += ["-c", "write -z \(shape.clusterSize * 2) \(shape.clusterSize * 2)"] }
            try await run("qemu-io", image(shape, file) + commands)
        }
        try await write(5)
        guard shape.variant == .snapshot else { return }
        try await run("qemu-img", ["snapshot", "-c", "first"] + image(shape, file))
        try await write(2)
    }

    private static func secret(_ shape: Qcow2Shape) -> [String] {
        shape.encryption == .none ? [] : ["--object", "secret,id=s,data=\(passphrase)"]
    }

    private static func image(_ shape: Qcow2Shape, _ file: String) -> [String] {
        let key = shape.encryption == .none ? "" : ",encrypt.key-secret=s"
        return secret(shape) + ["--image-opts", "driver=qcow2,file.filename=\(file)\(key)"]
    }

    func remove() { try? FileManager.default.removeItem(at: directory) }

    // MARK: Opening

    /// An image of these files that is written to.
    func open(_ file: RecordedFile, _ dataFile: RecordedFile?, cache: ImageCache = ImageCache()) throws
        -> any BlockDevice
    {
        let header = try #require(try Qcow2Header(device: file))
        try MappedCensus.checkL1(file: file, header: header)
        return AlignedDevice.lifting(
            try Qcow2Image(
                writing: file, header: header, cipher: try cipher(header, file), dataFile: dataFile,
                backing: backing.map { MemoryDevice($0) }, cache: cache))
    }

    /// An image of these bytes that is only read.
    func open(_ bytes: [UInt8], dataFile: [UInt8]?) throws -> any BlockDevice {
        let file = MemoryDevice(bytes)
        let header = try #require(try Qcow2Header(device: file))
        return AlignedDevice.lifting(
            Qcow2Image(
                file: file, header: header, cipher: try cipher(header, file),
                dataFile: dataFile.map { MemoryDevice($0) },
                backing: backing.map { MemoryDevice($0) }))
    }

    private func cipher(_ header: Qcow2Header, _ file: any BlockDevice) throws -> (any SectorCipher)? {
        let secret = Secret(count: Self.passphrase.utf8.count) { bytes in
            Array(Self.passphrase.utf8).withBytes { bytes.copy(from: $0) }
        }
        switch shape.encryption {
        case .none: return nil
        case .aes: return LegacyAESCipher(key: LegacyAESKey.derive(from: secret))
        case .luks:
            if let known = Self.ciphers.withLock({ $0[directory] }) { return known }
            let window = header.luksWindow(in: file)
            let volume = try #require(try LUKSVolume.read(from: window, dataSize: nil, isDetached: true))
            let unlock = LUKSUnlock(volume, header: window, options: LUKSUnlock.Options())
            let opened = try unlock.open(with: [LUKSUnlock.NamedSecret(name: "test", secret: secret)])
            let cipher = try LUKSSegments(volume, allowing: []).cipher(key: try #require(opened.first).key)
            Self.ciphers.withLock { $0[directory] = cipher }
            return cipher
        }
    }

    /// Keys of LUKS take long to derive.
    private static let ciphers = Locked<[URL: any SectorCipher]>([:])

    // MARK: Judges

    /// What qemu-img finds in the files: 0 nothing, 2 damage, 3 lost clusters; and what it says.
    func check(_ bytes: [UInt8], dataFile: [UInt8]?) async throws -> (code: Int32, text: String) {
        let file = try put(bytes, dataFile)
        let outcome = try await Subprocess.run(
            .name("qemu-img"), arguments: Arguments(["check"] + Self.image(shape, file)),
            output: .string(limit: 1 << 20), error: .string(limit: 1 << 20))
        guard case .exited(let code) = outcome.terminationStatus else { return (-1, "\(outcome.terminationStatus)") }
        return (code, outcome.standardOutput + outcome.standardError)
    }

    /// The disk as qemu-img reads it.
    func convert(_ bytes: [UInt8], dataFile: [UInt8]?) async throws -> [UInt8] {
        let file = try put(bytes, dataFile)
        let raw = directory.appending(path: "raw")
        try await Self.run("qemu-img", ["convert", "-O", "raw"] + Self.image(shape, file) + [raw.path])
        return [UInt8](try Data(contentsOf: raw))
    }

    /// What an audit finds in the files.
    func audit(_ bytes: [UInt8], dataFile: [UInt8]?) throws -> Qcow2Audit {
        let file = MemoryDevice(bytes)
        let header = try #require(try Qcow2Header(device: file))
        return Qcow2Audit(file: file, header: header, dataFileSize: dataFile.map { UInt64($0.count) })
    }

    /// What qemu-img makes of the image when it repairs all that it can.
    func repairedByQEMU(_ bytes: [UInt8], dataFile: [UInt8]?) async throws -> [UInt8] {
        let file = try put(bytes, dataFile)
        let outcome = try await Subprocess.run(
            .name("qemu-img"), arguments: Arguments(["check", "-r", "all"] + Self.image(shape, file)),
            output: .string(limit: 1 << 20), error: .string(limit: 1 << 20))
        guard case .exited = outcome.terminationStatus else { throw Failed(description: outcome.standardError) }
        return [UInt8](try Data(contentsOf: directory.appending(path: "image")))
    }

    /// Has qemu-img compare the disks of two images, which have one data file.
    func compare(_ bytes: [UInt8], _ others: [UInt8], dataFile: [UInt8]?) async throws -> String {
        let file = try put(bytes, dataFile)
        let other = directory.appending(path: "other").path
        try Data(others).write(to: directory.appending(path: "other"))
        // Locks are for one file at a time.
        let outcome = try await Subprocess.run(
            .name("qemu-img"),
            arguments: Arguments(
                ["compare"] + Self.image(shape, file) + Self.image(shape, other).suffix(1)),
            output: .string(limit: 1 << 20), error: .string(limit: 1 << 20))
        return outcome.standardOutput + outcome.standardError
    }

    private func put(_ bytes: [UInt8], _ dataFile: [UInt8]?) throws -> String {
        try Data(bytes).write(to: directory.appending(path: "image"))
        if let dataFile { try Data(dataFile).write(to: directory.appending(path: "data")) }
        return directory.appending(path: "image").path
    }

    private struct Failed: Error, CustomStringConvertible { let description: String }

    /// QEMU measures how fast a passphrase is hashed, and gives up on a busy machine: that is asked for again.
    private static func run(_ name: String, _ arguments: [String]) async throws {
        var failure: Failed?
        for _ in 1...20 {
            let outcome = try await Subprocess.run(
                .name(name), arguments: Arguments(arguments), output: .string(limit: 1 << 20),
                error: .string(limit: 1 << 20))
            guard outcome.terminationStatus != .exited(0) else { return }
            failure = Failed(
                description: "\(name) \(arguments): \(outcome.standardError) \(outcome.standardOutput)")
            guard outcome.standardError.contains("accurate CPU usage") else { break }
        }
        if let failure { throw failure }
    }
}

extension SeededGenerator {
    /// Whole sectors of a disk, in bytes.
    mutating func sectors(of size: Int, upTo maximum: Int) -> (offset: Int, length: Int) {
        let offset = number(below: size / 512) * 512
        let most = min(size - offset, max(512, maximum)) / 512
        return (offset, (1 + number(below: most)) * 512)
    }
}
