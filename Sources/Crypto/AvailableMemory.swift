// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

/// How much memory the process can still take, by each of the limits that Linux has.
struct AvailableMemory: Equatable {
    /// The smallest of what the limits leave.
    let bytes: UInt64
    /// The limit that this is, for a message.
    let reason: String

    /// Asks the system.
    static func now() -> AvailableMemory {
        var limits: [AvailableMemory] = []
        if let kibibytes = field("MemAvailable:", of: text("/proc/meminfo")) {
            limits.append(.init(bytes: kibibytes * 1024, reason: "MemAvailable of the system"))
        } else if let pages = UInt64(exactly: sysconf(Int32(_SC_PHYS_PAGES))), pages > 0 {
            // Without /proc/meminfo nothing says what is free, but there is no more than this.
            let page = UInt64(max(1, sysconf(Int32(_SC_PAGESIZE))))
            limits.append(.init(bytes: pages * page, reason: "the memory of the machine"))
        }
        if let group = text("/proc/self/cgroup").split(separator: "\n").first(where: { $0.hasPrefix("0::/") }) {
            limits += groups(String(group.dropFirst(3)), root: "/sys/fs/cgroup")
        }
        limits += addressSpace()
        return limits.min { $0.bytes < $1.bytes } ?? .init(bytes: .max, reason: "no limit is known")
    }

    /// What the cgroups (version 2) leave, from `path` up to the root.
    static func groups(_ path: String, root: String) -> [AvailableMemory] {
        var limits: [AvailableMemory] = []
        var names = path.split(separator: "/").map(String.init)
        while true {
            let group = ([root] + names).joined(separator: "/")
            if let maximum = number(text("\(group)/memory.max")), let used = number(text("\(group)/memory.current")) {
                // Pages of files count as used, but are given up before anything fails.
                let statistics = text("\(group)/memory.stat")
                let files = (field("active_file", of: statistics) ?? 0) + (field("inactive_file", of: statistics) ?? 0)
                let needed = used - min(used, files)
                limits.append(.init(bytes: maximum - min(maximum, needed), reason: "memory.max of \(group)"))
            }
            guard names.popLast() != nil else { return limits }
        }
    }

    private static func addressSpace() -> [AvailableMemory] {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0, limit.rlim_cur != rlim_t.max,
            let pages = number(text("/proc/self/statm"))
        else { return [] }
        let used = pages * UInt64(max(1, sysconf(Int32(_SC_PAGESIZE))))
        return [.init(bytes: UInt64(limit.rlim_cur) - min(UInt64(limit.rlim_cur), used), reason: "RLIMIT_AS")]
    }

    /// The number after `name` at the start of a line.
    static func field(_ name: String, of text: String) -> UInt64? {
        text.split(separator: "\n").first { $0.split(separator: " ").first.map(String.init) == name }
            .flatMap { number(String($0.drop { !$0.isNumber })) }
    }

    /// The number at the start; nil for "max".
    private static func number(_ text: String) -> UInt64? { UInt64(text.prefix { $0.isNumber }) }

    /// A file of the kernel; empty when it cannot be read.
    private static func text(_ path: String) -> String {
        guard let file = try? FileDescriptor.open(FilePath(path), .readOnly) else { return "" }
        defer { try? file.close() }
        let text = unsafe try? String(unsafeUninitializedCapacity: 16 << 10) { buffer in
            try unsafe file.read(into: UnsafeMutableRawBufferPointer(buffer))
        }
        return text ?? ""
    }
}
