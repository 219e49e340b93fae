// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Glibc
import SystemPackage

/// Users and their keys for TLS-PSK, as GnuTLS' psktool writes them: `user:hexkey`, one on a line.
///
/// A user's name may be written as `#` and hexadecimal digits. Other lines that begin with `#`, and blank ones, are
/// skipped. Immutable; the keys are wiped on release.
public final class PreSharedKeys: Sendable {
    /// Lengths of a key in bytes: shorter ones can be guessed, longer ones OpenSSL does not take.
    static let keyLengths = 16...512
    /// The longest name of a user in bytes (PSK_MAX_IDENTITY_LEN of OpenSSL, less one).
    static let maximumNameLength = 255

    /// The file that they come from, for messages.
    public let path: String
    /// What is doubtful about the file, each a sentence without a full stop.
    public let warnings: [String]
    private let keys: WipedBytes
    private let places: [[UInt8]: Range<Int>]

    /// Reads a file of keys.
    ///
    /// - Throws: ``TLSError``, with the line that is wrong.
    public init(path: String) throws(TLSError) {
        let file = try TLSKeyFile(path, remedy: .preSharedKeys)
        var places: [[UInt8]: Range<Int>] = [:]
        // Digits take twice the room of what they stand for.
        self.keys = try WipedBytes(count: file.bytes.count / 2) { (keys) throws(TLSError) in
            try file.bytes.withBytes { (text) throws(TLSError) in
                var parser = Parser(path: path)
                try parser.parse(text, into: &keys)
                places = parser.places
            }
        }
        guard !places.isEmpty else {
            throw TLSError("\(path) holds no key; make one with: psktool -u USER -p \(path)")
        }
        self.path = path
        self.places = places
        self.warnings =
            file.isReadableByAll ? ["every user of this machine can read the keys in \(path); chmod 600 it"] : []
    }

    /// Whose key is the first in the file; nil when the name is not text.
    var firstUser: String? {
        // Keys are stored in the order of the lines.
        let first = places.min { $0.value.lowerBound < $1.value.lowerBound }
        return first.flatMap { String(validating: $0.key, as: UTF8.self) }
    }

    /// Gives `body` the key of a user; nil when there is none.
    func withKey<Result>(of name: [UInt8], _ body: (RawSpan) -> Result) -> Result? {
        guard let place = places[name] else { return nil }
        return keys.withBytes { body($0.extracting(place)) }
    }

    /// Makes a file that holds a new random key for one user, and that nobody else can read.
    ///
    /// - Parameter user: letters, digits, `-` and `_`.
    /// - Throws: ``TLSError`` when the file exists or cannot be written.
    public static func makeFile(_ path: String, user: String) throws(TLSError) {
        let text = try randomLine(user: Array(user.utf8))
        do {
            let descriptor = try FileDescriptor.open(
                FilePath(path), .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec],
                permissions: .ownerReadWrite)
            defer { try? descriptor.close() }
            try text.withBytes { bytes in
                try unsafe bytes.withUnsafeBytes { bytes in _ = try unsafe descriptor.writeAll(bytes) }
            }
        } catch {
            throw TLSError(
                "cannot make \(path) for a key: \(error); name a file with \(remedy: .preSharedKeys) instead")
        }
    }

    /// `user:` and the 64 digits of a random key of 32 bytes.
    private static func randomLine(user: [UInt8]) throws(TLSError) -> WipedBytes {
        let key = try WipedBytes(count: 32) { (key) throws(TLSError) in
            let isRandom = unsafe key.withUnsafeMutableBytes { bytes in
                unsafe getentropy(bytes.baseAddress, bytes.count) == 0
            }
            guard isRandom else {
                throw TLSError("the system gave no random bytes for a key: \(Errno(rawValue: errno)); try again")
            }
        }
        let digits = Array("0123456789abcdef".utf8)
        return WipedBytes(count: user.count + 1 + 2 * key.count + 1) { line in
            key.withBytes { key in
                line.storeBytes(of: UInt8(ascii: ":"), toByteOffset: user.count, as: UInt8.self)
                line.storeBytes(of: UInt8(ascii: "\n"), toByteOffset: line.byteCount - 1, as: UInt8.self)
                for (index, byte) in user.enumerated() {
                    line.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
                }
                for index in 0..<key.byteCount {
                    let byte = key.byte(at: index)
                    let place = user.count + 1 + 2 * index
                    line.storeBytes(of: digits[Int(byte >> 4)], toByteOffset: place, as: UInt8.self)
                    line.storeBytes(of: digits[Int(byte & 15)], toByteOffset: place + 1, as: UInt8.self)
                }
            }
        }
    }
}
