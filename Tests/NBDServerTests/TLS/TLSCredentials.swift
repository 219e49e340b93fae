// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import NBDServer
import Synchronization
import Testing

/// Certificates and keys for tests, made once by Tests/Fixtures/make-tls-credentials, which describes them.
enum TLSCredentials {
    private static let made = Result { try make() }

    /// The directory of one server or client.
    static func directory(_ name: String) throws -> String { try made.get() + "/" + name }

    /// The settings of a server.
    static func server(
        _ name: String = "server", verifiesPeer: Bool = false, allowedNames: [String]? = nil
    ) throws -> TLSCertificates {
        TLSCertificates(directory: try directory(name), verifiesPeer: verifiesPeer, allowedNames: allowedNames)
    }

    /// The key of the user alice in ``keys()``.
    static let keyOfAlice = [UInt8](0x10..<0x30)

    /// A file with the keys of alice and bob.
    static func keys() throws -> PreSharedKeys {
        try PreSharedKeys(
            path: file("keys.psk", "alice:\(keyOfAlice.hexadecimal())\nbob:\(String(repeating: "5a", count: 16))\n"))
    }

    /// Writes a file that only this user can read.
    static func file(_ name: String, _ text: String) throws -> String {
        let path = try directory("\(name)-\(UInt32.random(in: 0...UInt32.max))")
        try #require(
            FileManager.default.createFile(
                atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600]))
        return path
    }

    /// A copy of a directory, to damage.
    static func copy(_ name: String) throws -> String {
        let path = try directory("\(name)-\(UInt32.random(in: 0...UInt32.max))")
        try FileManager.default.copyItem(atPath: try directory(name), toPath: path)
        return path
    }

    private static func make() throws -> String {
        let directory = FileManager.default.temporaryDirectory
            .appendingPathComponent("nbdt-\(UInt32.random(in: 0...UInt32.max))").path
        atexit(removeCredentials)
        madeDirectory.withLock { $0 = directory }
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../Fixtures/make-tls-credentials").path
        let result = try ShortProgram.run(script, [directory])
        try #require(result.status == 0, "\(result.output)")
        return directory
    }
}

private let madeDirectory = Mutex<String?>(nil)

private func removeCredentials() {
    if let directory = madeDirectory.withLock({ $0 }) { try? FileManager.default.removeItem(atPath: directory) }
}

/// Runs a program that ends soon.
enum ShortProgram {
    /// - Parameter closesInput: whether the program is told that its input ends; otherwise it has to end by itself.
    /// - Returns: its exit status, and what it said on both outputs.
    static func run(
        _ name: String, _ arguments: [String], input: String = "", closesInput: Bool = true
    ) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        // KILL, because this process may have other signals blocked, which its children inherit.
        process.arguments = ["--signal=KILL", "60", name] + arguments
        let (standardInput, output) = (Pipe(), Pipe())
        process.standardInput = standardInput
        process.standardOutput = output
        process.standardError = output
        try process.run()
        try standardInput.fileHandleForWriting.write(contentsOf: Data(input.utf8))
        if closesInput { try standardInput.fileHandleForWriting.close() }
        let said = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        try? standardInput.fileHandleForWriting.close()
        return (process.terminationStatus, String(decoding: said, as: UTF8.self))
    }
}
