// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Dispatch
import SystemPackage
import Testing

@Suite struct SecretTests {
    private func secret(_ text: String) -> Secret {
        Array(text.utf8).withBytes { bytes in Secret(count: bytes.byteCount) { $0.copy(from: bytes) } }
    }

    private func text(_ secret: Secret) -> String {
        secret.withBytes { String(decoding: [UInt8](copying: $0), as: UTF8.self) }
    }

    @Test(arguments: [
        ("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), ("abc\n\n", "abc\n"), ("abc\r", "abc\r"), ("\n", ""),
        ("\r\n", ""), ("", ""), ("a\nb\n", "a\nb"),
    ])
    func `one newline at the end is dropped and nothing else`(written: String, meant: String) {
        #expect(text(secret(written).droppingTrailingNewline()) == meant)
    }

    @Test(arguments: ["b", "ab", "layer-0 is secret", "\u{1}\u{2}\u{3}\u{4}"])
    func `secrets are equal when all bytes are, and differ when a single bit does`(content: String) {
        #expect(secret(content).equals(secret(content)))
        #expect(!secret(content).equals(secret(content + "x")))
        let bytes = Array(content.utf8)
        for bit in 0..<bytes.count * 7 {
            var other = bytes
            other[bit / 7] ^= 1 << UInt8(bit % 7)
            #expect(!secret(content).equals(secret(String(decoding: other, as: UTF8.self))), "bit \(bit)")
        }
    }

    @Test func `a description shows nothing of the bytes`() {
        let description = "\(secret("hunter2")) \(String(reflecting: secret("hunter2")))"
        #expect(!description.contains("hunter2"))
    }

    @Test(arguments: [0, 1, 4095, 65_535, 65_536, 65_537, 300_000])
    func `reading takes everything up to the end`(count: Int) throws {
        let (reader, writer) = try FileDescriptor.pipe()
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 13) }
        // Not a task: the reader waits on a thread that tasks may need.
        DispatchQueue(label: "writer").async {
            _ = try? writer.writeAll(bytes)
            try? writer.close()
        }
        defer { try? reader.close() }
        let secret = try #require(try Secret.read(from: reader))
        #expect(secret.withBytes { [UInt8](copying: $0) } == bytes)
    }

    @Test func `more than the limit is refused`() throws {
        let file = try FileDescriptor.open(FilePath("/dev/zero"), .readOnly)
        defer { try? file.close() }
        #expect(try Secret.read(from: file) == nil)
    }
}
