// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats
import Subprocess
import SystemPackage

/// Finds out to which files of a guest bytes belong: debugfs of e2fsprogs tells, for ext2, ext3 and ext4 on a disk or in its
/// partitions.
///
/// debugfs reads a raw image where it lies, so that this takes no space. It only reads, does not look at the bitmaps, which may
/// be lost themselves, and is ended when it takes too long: the file system is a stranger's.
struct FileLookup {
    /// The disk; takes requests of any offset and length.
    let disk: any BlockDevice
    /// The same disk as a file, byte for byte.
    let file: FileDescriptor

    /// Blocks of a file system that are looked up: debugfs compares each of them with every block of every file.
    private static let mostBlocks = 1024
    /// How long one look through a file system may take, in seconds.
    private static let patience = 60
    /// What debugfs may say, in bytes.
    private static let longestAnswer = 4 << 20

    /// A file system that debugfs reads.
    private struct FileSystem {
        let name: String
        let range: ByteRange
        /// In bytes.
        let blockSize: UInt64
    }

    /// What is known of these bytes of the disk; they are in order, and do not meet.
    func files(in lost: [ByteRange]) async -> LostFiles {
        var found = LostFiles()
        for system in fileSystems {
            let (blocks, isAll) = Self.blocks(of: system, in: lost)
            guard !blocks.isEmpty else { continue }
            do {
                found.add(try await files(of: blocks, in: system))
                if !isAll {
                    found.notes.append("\(system.name): only the first \(Self.mostBlocks) blocks were looked up")
                }
            } catch let failure as Failure {
                found.notes.append("\(system.name): files are not told: \(failure)")
            } catch {
                found.notes.append("\(system.name): files are not told: debugfs cannot be run: \(error)")
            }
        }
        return found
    }

    private var fileSystems: [FileSystem] {
        let survey = DiskSurvey(disk, sectorSize: nil)
        let whole = ByteRange(offset: 0, length: disk.size).map { ("the disk", $0, survey.contents) }
        let parts = survey.parts.map { ("partition \($0.partition.number)", $0.partition.range, $0.contents) }
        return ([whole].compactMap { $0 } + parts).compactMap { place, range, contents in
            guard let kind = contents.first(where: { ["ext2", "ext3", "ext4"].contains($0) }),
                // s_log_block_size; see ExtSuperblock, which allows no more than 6.
                let field = try? disk.read(count: 1, at: range.offset + 1024 + 24), field[0] <= 6
            else { return nil }
            return FileSystem(name: "\(kind) in \(place)", range: range, blockSize: 1024 << UInt64(field[0]))
        }
    }

    /// How many bytes are lost of each block; and are these all?
    private static func blocks(
        of system: FileSystem, in lost: [ByteRange]
    ) -> (blocks: [UInt64: UInt64], isAll: Bool) {
        var blocks: [UInt64: UInt64] = [:]
        for range in lost {
            var position = max(range.offset, system.range.offset)
            let end = min(range.end, system.range.end)
            while position < end {
                let block = (position - system.range.offset) / system.blockSize
                guard blocks[block] != nil || blocks.count < mostBlocks else { return (blocks, false) }
                let next = min(end, system.range.offset + (block + 1) * system.blockSize)
                blocks[block, default: 0] += next - position
                position = next
            }
        }
        return (blocks, true)
    }

    private func files(of blocks: [UInt64: UInt64], in system: FileSystem) async throws -> LostFiles {
        var bytes: [UInt64: UInt64] = [:]
        var found = LostFiles()
        let list = blocks.keys.sorted().map(String.init).joined(separator: " ")
        for (block, inode) in try await ask("icheck \(list)", system) {
            guard let block = UInt64(block), let count = blocks[block] else { continue }
            // It says that there is none in words.
            if let inode = UInt64(inode) { bytes[inode, default: 0] += count } else { found.bytesInNoFile += count }
        }
        guard !bytes.isEmpty else { return found }
        let inodes = bytes.keys.sorted()
        var names: [UInt64: [String]] = [:]
        for (inode, path) in try await ask("ncheck \(inodes.map(String.init).joined(separator: " "))", system) {
            guard let inode = UInt64(inode), bytes[inode] != nil else { continue }
            names[inode, default: []].append(ShownText.name((path.hasPrefix("//") ? path.dropFirst() : path[...]).utf8))
        }
        found.files = inodes.map {
            LostFiles.File(fileSystem: system.name, inode: $0, paths: names[$0] ?? [], lost: bytes[$0] ?? 0)
        }
        return found
    }

    /// The rows of a table of two columns that debugfs answers.
    private func ask(_ request: String, _ system: FileSystem) async throws -> [(String, String)] {
        // Nothing of the name of the file gets there, be it ever so odd.
        let place = "/proc/self/fd/0?offset=\(system.range.offset)"
        let path = (Process.environment("PATH") ?? "/usr/bin:/bin") + ":/usr/sbin:/sbin"
        let result = try await Subprocess.run(
            .name("timeout"), arguments: ["\(Self.patience)", "debugfs", "-c", "-R", request, place],
            environment: .inherit.updating(["LC_ALL": "C", "PATH": path]),
            input: .fileDescriptor(try file.duplicate(), closeAfterSpawningProcess: true),
            output: .bytes(limit: Self.longestAnswer), error: .string(limit: 64 << 10))
        switch result.terminationStatus {
        case .exited(124): throw Failure(.cannotOpen, "debugfs takes longer than \(Self.patience) seconds")
        case .exited(127): throw Failure(.cannotOpen, "debugfs is not installed; on Debian: apt install e2fsprogs")
        default: break
        }
        // Names are in any encoding.
        let lines = String(decoding: result.standardOutput, as: UTF8.self).split(separator: "\n")
        guard lines.first?.contains("\t") ?? false else {
            let said = result.standardError.split(separator: "\n").dropFirst().joined(separator: "; ")
            throw Failure(.cannotOpen, ShownText.printable("debugfs: \(said)", maximumLength: 500))
        }
        return lines.dropFirst().compactMap { line in
            let fields = line.split(separator: "\t", maxSplits: 1)
            return fields.count == 2 ? (String(fields[0]), String(fields[1])) : nil
        }
    }
}
