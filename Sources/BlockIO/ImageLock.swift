// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import SystemPackage

/// The locks by which QEMU keeps an image from being written by one process and read by another.
///
/// Each right is a byte of the image file, locked shared while somebody has the right, and another 100 bytes further on,
/// locked while somebody does not grant it to others. A right may be taken when nobody holds its second byte, and denied
/// when nobody holds its first. Locks end with the open file.
/// Source: QEMU's block/file-posix.c, `raw_apply_lock_bytes`, `raw_check_lock_bytes`.
struct ImageLock {
    private static let consistentRead: Int = 100
    private static let write: Int = 101
    private static let resize: Int = 103
    private static let denied: Int = 100

    /// What has become of it.
    enum Outcome: Equatable {
        /// The rights are ours until the file is closed.
        case admitted
        /// Another open file has rights that ours exclude.
        case inUse
        /// The file system knows no locks, or has none left: nobody is kept out.
        case noLocks(Errno)
        /// Nobody knows.
        case failed(Errno)
    }

    /// Takes a shared lock on a byte, or tells why not.
    let take: (_ byte: Int) -> Errno?
    /// Is a byte locked through another open file?
    let isHeld: (_ byte: Int) -> Result<Bool, Errno>

    /// Declares a reader who tolerates other readers but no writer.
    func admitReader() -> Outcome {
        admit(
            taking: [Self.consistentRead, Self.write + Self.denied, Self.resize + Self.denied],
            unless: [Self.consistentRead + Self.denied, Self.write, Self.resize])
    }

    /// Declares the only writer, who tolerates readers that tolerate one.
    func admitWriter() -> Outcome {
        let rights = [
            Self.consistentRead, Self.write, Self.resize, Self.write + Self.denied, Self.resize + Self.denied,
        ]
        let excluding = [
            Self.consistentRead + Self.denied, Self.write, Self.write + Self.denied, Self.resize,
            Self.resize + Self.denied,
        ]
        return admit(taking: rights, unless: excluding)
    }

    private func admit(taking rights: [Int], unless excluding: [Int]) -> Outcome {
        // First take, then look: of two who come at the same time, at least one sees the other.
        for byte in rights {
            if let error = take(byte) { return Self.outcome(error) }
        }
        for byte in excluding {
            switch isHeld(byte) {
            case .success(false): continue
            case .success(true): return .inUse
            case .failure(let error): return Self.outcome(error)
            }
        }
        return .admitted
    }

    private static func outcome(_ error: Errno) -> Outcome {
        switch error {
        // Somebody has locked the byte for himself alone; fcntl(2) may say either.
        case .wouldBlock, .permissionDenied: .inUse
        case .noFunction, .noLocks, .notSupported, .invalidArgument: .noLocks(error)
        default: .failed(error)
        }
    }
}

extension ImageLock {
    /// Of an open file.
    init(_ descriptor: FileDescriptor) {
        take = { linux_lock_byte(descriptor.rawValue, $0) == 0 ? nil : Errno(rawValue: errno) }
        isHeld = { byte in
            let answer = linux_is_byte_locked(descriptor.rawValue, byte)
            return answer < 0 ? .failure(Errno(rawValue: errno)) : .success(answer == 1)
        }
    }
}
