// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What a server says of the bytes of an export in one metadata context, neighbours joined.
struct BlockMap: Equatable, CustomStringConvertible {
    /// Bytes of one kind.
    struct Run: Equatable {
        var range: Range<Int>
        /// The flags of "base:allocation" or of a bitmap, or a depth.
        let value: Int
    }

    private(set) var runs: [Run] = []

    /// Flags of "base:allocation".
    static let hole = 1
    static let zero = 2

    /// Adds what follows.
    mutating func add(_ value: Int, _ length: Int) {
        guard length > 0 else { return }
        let start = runs.last?.range.upperBound ?? 0
        if let last = runs.last, last.value == value {
            runs[runs.count - 1].range = last.range.lowerBound..<(start + length)
        } else {
            runs.append(Run(range: start..<(start + length), value: value))
        }
    }

    var size: Int { runs.last?.range.upperBound ?? 0 }

    /// Where two maps differ: the parts that both have one value for.
    func differences(from other: BlockMap) -> [(range: Range<Int>, mine: Int, other: Int)] {
        var found: [(Range<Int>, Int, Int)] = []
        var index = 0
        for run in runs {
            while index < other.runs.count {
                let next = other.runs[index]
                let both = run.range.clamped(to: next.range)
                if !both.isEmpty, run.value != next.value { found.append((both, run.value, next.value)) }
                guard next.range.upperBound <= run.range.upperBound else { break }
                index += 1
            }
        }
        return found
    }

    /// The same where blocks of 4 KiB of data that are all zeros are known as such.
    func detectingZeros(in disk: Data) -> BlockMap {
        var map = BlockMap()
        for run in runs {
            var position = run.range.lowerBound
            while position < run.range.upperBound {
                let block = (position / 4096 * 4096)..<min(disk.count, position / 4096 * 4096 + 4096)
                let isZero = run.value == 0 && disk[block].allSatisfy { $0 == 0 }
                let end = min(run.range.upperBound, block.upperBound)
                map.add(isZero ? Self.zero : run.value, end - position)
                position = end
            }
        }
        return map
    }

    var description: String { runs.map { "\($0.range): \($0.value)" }.joined(separator: "\n") }
}

extension BlockMap {
    private struct Status: Decodable {
        let offset, length, type: Int
    }

    /// Asks with nbdinfo.
    static func nbdinfo(_ uri: String, _ context: String) async throws -> BlockMap {
        let text = try await Tool.succeed("nbdinfo", ["--json", "--map=\(context)", uri])
        var map = BlockMap()
        for status in try JSONDecoder().decode([Status].self, from: Data(text.utf8)) {
            try #require(status.offset == map.size)
            map.add(status.type, status.length)
        }
        return map
    }

    private struct Mapping: Decodable {
        let start, length: Int
        /// The layer that says so, 0 for the top.
        let depth: Int
        let present, zero, data: Bool
        /// In the file of the layer, where the bytes are stored as they are.
        let offset: Int?

        /// A driver for an image in which nothing is stored says so by "present".
        var flags: Int { data ? zero ? BlockMap.zero : 0 : BlockMap.hole | BlockMap.zero }
    }

    /// Asks with `qemu-img map`, which knows the flags of "base:allocation" alone.
    static func qemuImg(_ arguments: [String]) async throws -> BlockMap {
        try await mappings(arguments).reduce(into: BlockMap()) { $0.add($1.flags, $1.length) }
    }

    /// What `qemu-img map` says of an image, and where that is in a file, what the file says: holes are zeros.
    ///
    /// - Parameter files: what holds the clusters of each layer, the top first.
    static func exact(_ arguments: [String], files: [String]) async throws -> BlockMap {
        var map = BlockMap()
        for mapping in try await mappings(arguments) {
            guard mapping.flags == 0, let offset = mapping.offset else {
                map.add(mapping.flags, mapping.length)
                continue
            }
            // A raw file in the chain: its holes are known already.
            for part in try SparseFile.parts(of: files[mapping.depth], offset..<(offset + mapping.length)) {
                map.add(part.isHole ? zero : 0, part.length)
            }
        }
        return map
    }

    private static func mappings(_ arguments: [String]) async throws -> [Mapping] {
        let text = try await Tool.succeed("qemu-img", ["map", "--output=json"] + arguments)
        let mappings = try JSONDecoder().decode([Mapping].self, from: Data(text.utf8))
        var end = 0
        for mapping in mappings {
            try #require(mapping.start == end)
            end += mapping.length
        }
        return mappings
    }
}

/// What the file system knows of the holes of a file.
enum SparseFile {
    private static let seekData: Int32 = 3
    private static let seekHole: Int32 = 4

    /// Makes a hole of every block of zeros.
    ///
    /// What was allocated and never written is a hole to the file system until somebody reads it: a comparison needs
    /// holes that stay.
    static func rewrite(_ path: String) async throws {
        try await Tool.succeed("cp", ["--sparse=always", "--preserve=mode", path, "\(path).sparse"])
        try await Tool.succeed("mv", ["\(path).sparse", path])
    }

    /// The data and holes of a part of a file; what is behind its end is a hole.
    static func parts(of path: String, _ range: Range<Int>) throws -> [(isHole: Bool, length: Int)] {
        let handle = try #require(FileHandle(forReadingAtPath: path))
        defer { try? handle.close() }
        var parts: [(Bool, Int)] = []
        var position = range.lowerBound
        while position < range.upperBound {
            let data = lseek(handle.fileDescriptor, position, seekData)
            let isHole = data != position
            let end =
                isHole
                ? data < 0 ? range.upperBound : data : Int(lseek(handle.fileDescriptor, position, seekHole))
            try #require(end > position)
            parts.append((isHole, min(end, range.upperBound) - position))
            position = end
        }
        return parts
    }
}
