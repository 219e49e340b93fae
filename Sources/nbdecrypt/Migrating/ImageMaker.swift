// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import FoundationEssentials
import Subprocess
import SystemPackage

/// Has the reference tool of a format make an empty image: qemu-img for qcow2, cryptsetup for LUKS.
struct ImageMaker {
    let format: TargetFormat
    /// Of the disk, in bytes.
    let size: UInt64
    /// Nil for a format that is not encrypted.
    let secret: Secret?
    /// How long a passphrase is to take to be tried, in milliseconds; nil: what the tool thinks right.
    let derivationTime: Int?
    /// What it stands on; nil: it holds the whole disk. For qcow2 alone.
    let base: NewBase?

    /// The new file as a program sees it that has it as its standard output: by its name, a program that outlives this one
    /// would make it anew after it was removed.
    private static let place = "/proc/self/fd/1"

    /// Where the data of a LUKS container begins, as cryptsetup has it without being asked; in bytes.
    private var dataOffset: UInt64 { Self.dataOffset(format) }

    static func dataOffset(_ format: TargetFormat) -> UInt64 {
        switch format {
        case .raw, .qcow2, .qcow2LUKS: 0
        case .luks1: 2 << 20
        case .luks2: 16 << 20
        }
    }

    /// The program that makes a format, and its package in Debian; nil when none is needed.
    static func tool(_ format: TargetFormat) -> (program: String, package: String)? {
        switch format {
        case .raw: nil
        case .qcow2, .qcow2LUKS: ("qemu-img", "qemu-utils")
        case .luks1, .luks2: ("cryptsetup", "cryptsetup-bin")
        }
    }

    /// Refuses a disk that a format cannot hold.
    ///
    /// - Parameters:
    ///   - size: of the disk, in bytes.
    ///   - path: of the new image.
    /// - Throws: ``Failure``.
    static func check(_ format: TargetFormat, size: UInt64, _ path: String) throws(Failure) {
        guard !format.hasSectors || size % 512 == 0 else {
            throw Failure(
                .usage,
                "\(path): the disk has \(size) bytes, and \(format.description) holds whole sectors of 512; to keep "
                    + "it to the byte, say --to raw")
        }
        guard size > 0 else {
            throw Failure(.badImage, "\(path): the disk has no bytes: there is nothing to copy")
        }
        guard !size.addingReportingOverflow(dataOffset(format)).overflow else {
            throw Failure(.badImage, "\(path): the disk is too large for a LUKS container")
        }
    }

    /// Refuses a format whose program is not here.
    /// - Throws: ``Failure``.
    static func checkTool(_ format: TargetFormat) throws(Failure) {
        guard let (program, _) = tool(format) else { return }
        let directories = (Process.environment("PATH") ?? "").split(separator: ":")
        guard directories.contains(where: { FileManager.default.isExecutableFile(atPath: "\($0)/\(program)") }) else {
            throw isMissing(format)
        }
    }

    private static func isMissing(_ format: TargetFormat) -> Failure {
        let (program, package) = tool(format) ?? ("", "")
        return Failure(
            .cannotOpen,
            "\(program) is needed to make \(format.description), and is not installed; on Debian: apt install \(package)"
        )
    }

    /// Makes it in an empty file.
    /// - Throws: ``Failure``.
    func make(_ file: NewFile) async throws(Failure) {
        try Self.check(format, size: size, file.path)
        switch format {
        case .raw: try file.grow(to: size)
        case .qcow2, .qcow2LUKS: try await run("qemu-img", qemuArguments, file)
        case .luks1, .luks2:
            try file.grow(to: size + dataOffset)
            try await run("cryptsetup", cryptsetupArguments, file)
        }
    }

    private var qemuArguments: [String] {
        var arguments = ["create", "-q", "-f", "qcow2"]
        var options = base?.options ?? []
        if format == .qcow2LUKS {
            arguments += ["--object", "secret,id=new,file=/dev/stdin"]
            options += ["encrypt.format=luks", "encrypt.key-secret=new"]
            options += derivationTime.map { ["encrypt.iter-time=\($0)"] } ?? []
        }
        if !options.isEmpty { arguments += ["-o", options.joined(separator: ",")] }
        // Unseen: to qemu-img, the name would start at that of the new file, which is another directory.
        if let base { arguments += ["-u", "-b", base.name, "-F", "qcow2"] }
        return arguments + [Self.place, String(size)]
    }

    /// Sectors stay as they are: a file system that was made on sectors of 512 bytes may not be mounted on larger ones.
    private var cryptsetupArguments: [String] {
        ["luksFormat", "--batch-mode", "--type", format.rawValue, "--offset", String(dataOffset / 512)]
            + (format == .luks2 ? ["--sector-size", "512"] : [])
            + (derivationTime.map { ["--iter-time", String($0)] } ?? []) + ["--key-file", "-", Self.place]
    }

    /// qemu-img measures the processor, and gives up when that goes wrong because others use it.
    private static let attempts = 100

    /// Runs a program until it can do what it is to do.
    private func run(
        _ program: String, _ arguments: [String], _ file: NewFile
    ) async throws(Failure) {
        for attempt in 1...Self.attempts {
            guard let reason = try await runOnce(program, arguments, file) else { return }
            guard reason.contains("accurate CPU usage"), attempt < Self.attempts else {
                throw Failure(.cannotWrite, "\(program) cannot make the new image: \(reason)\(Self.room(for: file))")
            }
        }
    }

    /// More than any program writes before the data, in bytes.
    private static let headerSize: UInt64 = 32 << 20

    /// What to say of the space for a file, since programs that run out of it have other words for that.
    private static func room(for file: NewFile) -> String {
        let directory = Process.directory(of: file.path).string
        guard let free = Process.freeSpace(in: directory), free < headerSize else { return "" }
        return "; \(directory) has \(ByteText.short(free)) free: make room, or name another place"
    }

    /// Runs a program that is found as the shell finds it, with the secret as its standard input.
    /// - Returns: what it says when it fails.
    private func runOnce(
        _ program: String, _ arguments: [String], _ file: NewFile
    ) async throws(Failure) -> String? {
        let (input, output): (FileDescriptor, FileDescriptor)
        do {
            input =
                try secret.map { try Process.pipe($0) }
                ?? .open(FilePath("/dev/null"), .readOnly, options: .closeOnExec)
            output = try file.descriptor.duplicate()
        } catch {
            throw Failure(.internalError, "nothing can be given to \(program): \(error)")
        }
        do {
            let result = try await Subprocess.run(
                .name(program), arguments: Arguments(arguments),
                input: .fileDescriptor(input, closeAfterSpawningProcess: true),
                output: .fileDescriptor(output, closeAfterSpawningProcess: true),
                error: .string(limit: 16 << 10))
            guard !result.terminationStatus.isSuccess else { return nil }
            let said = result.standardError.split(separator: "\n").joined(separator: "; ")
            return ShownText.printable(said.isEmpty ? "\(result.terminationStatus)" : said, maximumLength: 500)
        } catch let error as SubprocessError where error.code == .executableNotFound {
            throw Self.isMissing(format)
        } catch {
            throw Failure(.internalError, "\(program) cannot be run: \(error)")
        }
    }
}
