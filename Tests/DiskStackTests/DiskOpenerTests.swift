// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import Foundation
import ImageFormats
import Testing

/// The documented entry point, as another program sees it: without `@testable`.
@Suite struct DiskOpenerTests {
    private func withFile(_ bytes: [UInt8], _ body: (String) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "nbdecrypt-\(UUID())").path
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    @Test func `an image that is said to be raw is one disk with its bytes`() throws {
        let bytes = (0..<4096).map { UInt8(truncatingIfNeeded: $0 / 16) }
        try withFile(bytes) { path in
            var options = OpeningOptions(ImageSource(path))
            options.format = .raw
            let disks = try DiskOpener(options).disks()
            #expect(disks.map(\.name) == [""])
            #expect(disks.map(\.description) == ["raw"])
            #expect(try disks[0].device.read(count: 4096, at: 0) == bytes)
            #expect(!disks[0].device.isWritable)
        }
    }

    @Test func `raw is never guessed`() throws {
        try withFile([UInt8](repeating: 7, count: 4096)) { path in
            let error = #expect(throws: OpeningError.self) { try DiskOpener(OpeningOptions(ImageSource(path))).disks() }
            #expect(error?.code == .badImage)
            #expect(error?.description.hasPrefix("\(path): ") == true)
        }
    }

    @Test func `a file that is not there cannot be opened, and is named`() {
        let error = #expect(throws: OpeningError.self) {
            try DiskOpener(OpeningOptions(ImageSource("/nowhere/x"))).disks()
        }
        #expect(error?.code == .cannotOpen)
        #expect(error?.description.hasPrefix("/nowhere/x: ") == true)
    }

    @Test func `a disk that is not there is a mistake of the caller`() throws {
        try withFile([UInt8](repeating: 0, count: 4096)) { path in
            var options = OpeningOptions(ImageSource(path))
            options.format = .raw
            options.selection.partition = 3
            let error = #expect(throws: OpeningError.self) { try DiskOpener(options).disks() }
            #expect(error?.code == .usage)
            #expect(error?.description == "\(path) has no partition 3; it has none")
        }
    }

    @Test func `warnings are told to whoever opens`() throws {
        try withFile([UInt8](repeating: 0, count: 1000)) { path in
            let warnings = Locked<[String]>([])
            var options = OpeningOptions(ImageSource(path))
            options.format = .raw
            _ = try DiskOpener(options) { event in
                if event.kind == .warning { warnings.withLock { $0.append(event.text) } }
            }.disks()
            #expect(warnings.withLock { $0.first?.hasPrefix("1000 bytes are not whole sectors") } == true)
        }
    }

    @Test func `a passphrase is all of a file but one newline at its end`() throws {
        try withFile(Array("open sesame\n".utf8)) { path in
            let secrets = try GivenSecrets(passphraseFile: path)
            #expect(secrets.names == ["the passphrase file \(path)"])
            let found = try secrets.secrets(for: .passphrase)
            #expect(found.map { $0.secret.count } == [11])
            #expect(try secrets.secrets(for: .volumeKey).isEmpty)
        }
        let error = #expect(throws: OpeningError.self) { try GivenSecrets(passphraseFile: "/nowhere/x") }
        #expect(error?.code == .cannotOpen)
    }

    @Test func `nobody is asked by secrets that are given`() {
        let error = #expect(throws: OpeningError.self) { try GivenSecrets().ask(for: "old.qcow2") }
        #expect(error?.isOfSecret == true)
        #expect(error?.description == "old.qcow2 is encrypted, and no passphrase is given")
    }
}
