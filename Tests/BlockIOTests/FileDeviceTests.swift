// SPDX-License-Identifier: Apache-2.0

import BlockIO
import SystemPackage
import Testing

@Suite struct FileDeviceTests {
    /// Makes a file for the time of `body`.
    private func withFile(_ bytes: [UInt8], _ body: (FilePath) throws -> Void) throws {
        let path = FilePath("/tmp/nbdecrypt-test-\(UInt64.random(in: 0 ... .max))")
        let file = try FileDescriptor.open(path, .writeOnly, options: [.create], permissions: .ownerReadWrite)
        try file.closeAfter { _ = try file.writeAll(bytes) }
        defer { try? FileDescriptor.open(path, .writeOnly, options: .truncate).close() }
        try body(path)
    }

    @Test func `reads give the file's bytes in both modes`() throws {
        let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 * 31) }
        try withFile(bytes) { path in
            let device = try FileDevice(path: path, excludesWriters: true)
            #expect(device.size == 10_000)
            #expect(try device.read(count: 777, at: 9_223) == Array(bytes[9_223...]))
            do {
                #expect(try device.read(count: 100, at: 1, .cachedOnly) == Array(bytes[1..<101]))
            } catch let error as BlockError {
                // Not every file system can tell what is cached.
                #expect(error == .wouldBlock)
            }
        }
    }

    @Test func `a file that has shrunk is an error and not zeros`() throws {
        try withFile([UInt8](repeating: 1, count: 8192)) { path in
            let device = try FileDevice(path: path, excludesWriters: true)
            try FileDescriptor.open(path, .writeOnly, options: .truncate).close()
            #expect {
                try device.read(count: 10, at: 0)
            } throws: { error in
                (error as? BlockError)?.code == .inputOutput
                    && "\(error)".hasSuffix("the file has become shorter than 8192 bytes")
            }
        }
    }

    @Test(arguments: [
        ("/nonexistent/image", "check the name"), ("/tmp", "is a directory"),
        ("/dev/null", "neither a file nor a block device"),
    ])
    func `what is not a file is refused with a sentence`(path: String, part: String) {
        #expect {
            try FileDevice(path: FilePath(path), excludesWriters: true)
        } throws: { error in
            (error as? FormatError)?.code == .unreadable && "\(error)".contains(part)
        }
    }
}
