// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Changes single fields of a qcow2 file.
struct Qcow2Editor {
    let path: String

    /// Reads a big-endian number of `count` bytes.
    func integer(at offset: Int, count: Int) throws -> UInt64 {
        let handle = try #require(FileHandle(forReadingAtPath: path))
        defer { try? handle.close() }
        try handle.seek(toOffset: UInt64(offset))
        let bytes = try #require(try handle.read(upToCount: count))
        try #require(bytes.count == count)
        return bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    func word(at offset: Int) throws -> UInt32 { UInt32(truncatingIfNeeded: try integer(at: offset, count: 4)) }

    func long(at offset: Int) throws -> UInt64 { try integer(at: offset, count: 8) }

    /// Writes bytes, past the end of the file too.
    func set(_ bytes: [UInt8], at offset: Int) throws {
        let handle = try #require(FileHandle(forUpdatingAtPath: path))
        defer { try? handle.close() }
        try handle.seek(toOffset: UInt64(offset))
        try handle.write(contentsOf: bytes)
    }

    /// Writes a big-endian number.
    func set(_ value: some FixedWidthInteger, at offset: Int) throws {
        try set(Self.bytes(value), at: offset)
    }

    static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
        (0..<(value.bitWidth / 8)).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }

    func truncate(to count: Int) throws {
        let handle = try #require(FileHandle(forUpdatingAtPath: path))
        defer { try? handle.close() }
        try handle.truncate(atOffset: UInt64(count))
    }

    var clusterSize: Int { get throws { 1 << Int(try word(at: 20)) } }

    /// Where the L1 entry of a guest offset is.
    func l1Place(of guest: Int) throws -> Int {
        let cluster = try clusterSize
        return Int(try long(at: 40)) + guest / (cluster / 8 * cluster) * 8
    }

    /// Where the L2 entry of a guest offset is.
    func l2Place(of guest: Int) throws -> Int {
        let cluster = try clusterSize
        let table = Int(try long(at: try l1Place(of: guest)) & Self.offsetMask)
        try #require(table != 0, "guest offset \(guest) has an L2 table")
        return table + guest / cluster % (cluster / 8) * 8
    }

    /// The L2 entry of a guest offset.
    func l2Entry(of guest: Int) throws -> UInt64 { try long(at: try l2Place(of: guest)) }

    /// Where the cluster of a guest offset is; it must be a standard cluster.
    func hostOffset(of guest: Int) throws -> Int {
        let entry = try l2Entry(of: guest)
        try #require(entry & Self.compressedFlag == 0 && entry & Self.offsetMask != 0, "a standard cluster")
        return Int(entry & Self.offsetMask)
    }

    static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00
    static let compressedFlag: UInt64 = 1 << 62
}
