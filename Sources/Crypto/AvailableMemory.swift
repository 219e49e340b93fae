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
        limits += groups(membership: text("/proc/self/cgroup"), mounts: "/sys/fs/cgroup")
        limits += addressSpace()
        return limits.min { $0.bytes < $1.bytes } ?? .init(bytes: .max, reason: "no limit is known")
    }

    /// What the cgroups leave: those of version 2, those of version 1, or, where a machine has both, whichever rules
    /// memory.
    ///
    /// - Parameters:
    ///   - membership: /proc/self/cgroup: lines of `number:controllers:path`.
    ///   - mounts: where version 2 is mounted, and version 1 with a directory for each controller.
    static func groups(membership: String, mounts: String) -> [AvailableMemory] {
        membership.split(separator: "\n").flatMap { line -> [AvailableMemory] in
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 3 else { return [] }
            if fields[0] == "0", fields[1].isEmpty { return groups(fields[2], root: mounts, .second) }
            guard fields[1].split(separator: ",").contains("memory") else { return [] }
            return groups(fields[2], root: "\(mounts)/memory", .first)
        }
    }

    /// How a version of cgroups names what it says of memory.
    struct GroupFiles {
        let limit: String
        let used: String
        /// Fields of memory.stat: pages of files, which count as used, but are given up before anything fails.
        let filePages: [String]

        /// Version 1. Its fields with "total_" count the groups below, too, as `used` does.
        static let first = GroupFiles(
            limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes",
            filePages: ["total_active_file", "total_inactive_file"])
        /// Version 2.
        static let second = GroupFiles(
            limit: "memory.max", used: "memory.current", filePages: ["active_file", "inactive_file"])
    }

    /// What the groups leave, from `path` up to the root.
    ///
    /// In a container the path is often that of the host, of which the mount shows the end alone, as its root: groups that
    /// are not there are passed over, and the root always counts.
    private static func groups(_ path: String, root: String, _ files: GroupFiles) -> [AvailableMemory] {
        var limits: [AvailableMemory] = []
        // A path that leads out of a namespace begins with "..", and names nothing below the root.
        var names = path.split(separator: "/").map(String.init)
        if names.contains("..") { names = [] }
        while true {
            let group = ([root] + names).joined(separator: "/")
            if let maximum = number(text("\(group)/\(files.limit)")), let used = number(text("\(group)/\(files.used)"))
            {
                let statistics = text("\(group)/memory.stat")
                let pages = files.filePages.reduce(0) { $0 + min(field($1, of: statistics) ?? 0, used) }
                // Version 1 says there what groups above leave, which a container does not see.
                let above = field("hierarchical_memory_limit", of: statistics) ?? .max
                let (smallest, needed) = (min(maximum, above), used - min(used, pages))
                limits.append(
                    .init(bytes: smallest - min(smallest, needed), reason: "\(files.limit) of \(group)"))
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
