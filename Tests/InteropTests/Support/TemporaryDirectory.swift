// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A directory of one test; its path is short enough for Unix sockets.
struct TemporaryDirectory {
    let path: String

    init() throws {
        let name = "nbdi-\(UInt32.random(in: 0...UInt32.max))"
        path = FileManager.default.temporaryDirectory.appendingPathComponent(name).path
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
    }

    /// The path of a file in the directory.
    func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Writes a file and returns its path.
    @discardableResult
    func write(_ name: String, _ bytes: some DataProtocol) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: file(name)))
        return file(name)
    }

    /// Writes a text file, without a newline at its end, and returns its path.
    @discardableResult
    func write(_ name: String, text: String) throws -> String { try write(name, Data(text.utf8)) }

    /// Removes the directory and all that is in it.
    func remove() { try? FileManager.default.removeItem(atPath: path) }
}

/// Questions about files.
enum File {
    static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

    /// The contents, mapped when that is possible.
    static func contents(_ path: String) throws -> Data {
        try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
    }

    static func text(_ path: String) throws -> String { String(decoding: try contents(path), as: UTF8.self) }

    /// In bytes.
    static func size(_ path: String) throws -> UInt64 {
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        return (attributes[.size] as? NSNumber)?.uint64Value ?? 0
    }

    /// The permission bits.
    static func mode(_ path: String) throws -> Int {
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        return (attributes[.posixPermissions] as? NSNumber)?.intValue ?? 0
    }
}
