// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import SystemPackage

/// Who has locked a file: a process that the person at the terminal can look for.
///
/// The system's table of locks names the process of a lock that belongs to one. Locks of QEMU's kind belong to an open file:
/// for these, the open files of all processes are looked at, as far as this user may. Source: proc_locks(5),
/// proc_pid_fdinfo(5).
struct LockHolder: Equatable {
    let process: Int
    /// Its name, without what a terminal might take for more than text.
    let command: String
    /// This very process has opened the file twice.
    let isSelf: Bool

    /// No more open files are looked at.
    private static let maximumFileCount = 100_000
    /// Of what the system says, in bytes; the rest is not read.
    private static let maximumLength = 1 << 20

    /// Who else has locked what `descriptor` has open; nil when the system does not tell.
    static func find(_ descriptor: FileDescriptor) -> LockHolder? {
        var status = stat()
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { return nil }
        let file = Self.name(device: status.st_dev, inode: status.st_ino)
        let known = text("/proc/locks").flatMap { processes(in: $0, file: file).first }
        return (known ?? owner(status, except: descriptor)).map(LockHolder.init)
    }

    private init(process: Int) {
        self.process = process
        // A line; the process chooses what is in it.
        let name = Self.text("/proc/\(process)/comm")?.split(separator: "\n").first ?? ""
        command = ShownText.printable(name, maximumLength: 64)
        isSelf = process == Int(getpid())
    }

    /// A file as the table of locks has it.
    static func name(device: UInt, inode: UInt) -> String {
        // As gnu_dev_major(3) and gnu_dev_minor(3).
        let major = (device >> 8 & 0xFFF) | (device >> 32 & ~0xFFF)
        let minor = (device & 0xFF) | (device >> 12 & ~0xFF)
        func hex(_ number: UInt) -> String { (number < 16 ? "0" : "") + String(number, radix: 16) }
        return "\(hex(major)):\(hex(minor)):\(inode)"
    }

    /// The processes that a table of locks names for a file, but for those that wait.
    static func processes(in table: String, file: String) -> [Int] {
        table.split(separator: "\n").compactMap { line in
            // "1: POSIX  ADVISORY  WRITE 4242 08:01:1234 0 EOF"; locks of flock(2) and leases exclude nothing here.
            let fields = line.split(separator: " ")
            guard fields.count == 8, fields[1] == "POSIX", fields[5] == file, let process = Int(fields[4]), process > 0
            else { return nil }
            return process
        }
    }

    /// The process with an open file that has locks on this one.
    private static func owner(_ wanted: stat, except descriptor: FileDescriptor) -> Int? {
        var count = 0
        for process in names("/proc").compactMap({ Int($0) }) {
            for file in names("/proc/\(process)/fdinfo") {
                count += 1
                guard count <= maximumFileCount else { return nil }
                var status = stat()
                guard unsafe stat("/proc/\(process)/fd/\(file)", &status) == 0, status.st_ino == wanted.st_ino,
                    status.st_dev == wanted.st_dev,
                    process != Int(getpid()) || Int32(file) != descriptor.rawValue,
                    text("/proc/\(process)/fdinfo/\(file)")?.contains("\nlock:") == true
                else { continue }
                return process
            }
        }
        return nil
    }

    private static func names(_ directory: String) -> [String] {
        guard let stream = unsafe opendir(directory) else { return [] }
        defer { unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { unsafe Array($0.prefix { $0 != 0 }) }
            names.append(String(decoding: name, as: UTF8.self))
        }
        return names
    }

    private static func text(_ path: String) -> String? {
        guard let file = try? FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec) else { return nil }
        defer { try? file.close() }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while bytes.count < maximumLength,
            let count = try? unsafe buffer.withUnsafeMutableBytes({ buffer in unsafe try file.read(into: buffer) }),
            count > 0
        {
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
