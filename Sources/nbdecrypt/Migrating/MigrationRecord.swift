// SPDX-License-Identifier: Apache-2.0

import BlockIO
import FoundationEssentials
import SystemPackage

/// A file beside new images that says which are complete, so that a second run goes on where the first has ended. One run at a
/// time has it.
final class MigrationRecord: Sendable {
    private static let name = "nbdecrypt-migrate.jsonl"
    /// Larger ones are not read: some hundred thousand images.
    private static let maximumSize = 64 << 20

    /// A line of the file.
    struct Entry: Codable, Sendable {
        enum State: String, Codable {
            /// Its copy may be there in part.
            case begun
            /// It has ended without one, and nothing is left of it.
            case failed
            /// It is about to get its name: a run that is killed now leaves it under that, or as a copy that is not complete.
            case ready
            /// It has been read back, or that was not wanted.
            case complete
        }

        let state: State
        let new: String
        let old: String
        /// Of the old image, in bytes; it was another one when this is not the same.
        let size: UInt64?
        /// Of the old image, in seconds since 2001.
        let modified: Double?
        /// Of the disk.
        var digest: String?
        /// Of a copy that is ready: the file.
        var file: Process.FileIdentity?
    }

    private let path: String
    private let file: FileDescriptor
    /// The last one of each new image.
    private let entries: Locked<[String: Entry]>

    /// Opens it, or makes one.
    /// - Throws: ``Failure`` when another run has it, or it is something else.
    init(in directory: String) throws(Failure) {
        path = "\(directory)/\(Self.name)"
        do {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            file = try FileDescriptor.open(
                FilePath(path), .readWrite, options: [.create, .append, .closeOnExec, .noFollow],
                permissions: [.ownerReadWrite])
        } catch { throw Failure(.cannotWrite, "\(path) cannot be opened: \(error)") }
        guard !Process.isLocked(file) else {
            throw Failure(.cannotWrite, "another run writes to \(directory); wait for it, or name another --output-dir")
        }
        Process.lock(file)
        var entries: [String: Entry] = [:]
        do {
            guard let text = try Process.read(path, atMost: Self.maximumSize) else { throw Errno.fileTooLarge }
            for line in text.split(separator: UInt8(ascii: "\n")) {
                // The last line of a run that was killed may be cut off.
                guard let entry = try? JSONDecoder().decode(Entry.self, from: Data(line)) else { continue }
                entries[entry.new] = entry
            }
        } catch { throw Failure(.cannotOpen, "\(path) cannot be read: \(error)") }
        self.entries = Locked(entries)
    }

    /// The complete copy of the image as it is now, if it is there.
    func complete(_ job: MigrationJob) -> Entry? {
        guard let entry = entries.withLock({ $0[job.new] }) else { return nil }
        switch entry.state {
        case .begun, .failed: return nil
        case .ready:
            // The run was killed. What has the name is its copy, or somebody else's.
            guard let file = entry.file, Process.isName(job.new, of: file) else { return nil }
        case .complete: guard Process.exists(job.new) else { return nil }
        }
        let now = Self.entry(.begun, job)
        return entry.old == now.old && entry.size == now.size && entry.modified == now.modified ? entry : nil
    }

    /// Has a copy been begun here that is not complete?
    func hasBegun(_ job: MigrationJob) -> Bool {
        entries.withLock { $0[job.new]?.state }.map { $0 == .begun || $0 == .ready } ?? false
    }

    /// Takes down that a copy begins, or is complete.
    ///
    /// - Parameter file: of a copy that is ready.
    /// - Throws: ``Failure`` when it cannot be written.
    func add(
        _ state: Entry.State, _ job: MigrationJob, digest: String? = nil, file identity: Process.FileIdentity? = nil
    ) throws(Failure) {
        var entry = Self.entry(state, job)
        entry.digest = digest
        entry.file = identity
        do {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            // A line at once: a newline before it ends what a killed run has left.
            try file.writeAll(Array("\n".utf8) + Array(try encoder.encode(entry)) + Array("\n".utf8))
        } catch { throw Failure(.cannotWrite, "\(path) cannot be written to: \(error)") }
        entries.withLock { $0[job.new] = entry }
    }

    private static func entry(_ state: Entry.State, _ job: MigrationJob) -> Entry {
        var (size, modified): (UInt64?, Double?)
        if case .file(let path) = job.source,
            let attributes = try? FileManager.default.attributesOfItem(atPath: path.string)
        {
            size = attributes[.size] as? UInt64
            modified = (attributes[.modificationDate] as? Date)?.timeIntervalSinceReferenceDate
        }
        return Entry(state: state, new: job.new, old: job.source.name, size: size, modified: modified)
    }
}
