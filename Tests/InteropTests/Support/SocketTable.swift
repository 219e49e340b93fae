// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The sockets of this machine, from /proc/net, which shows them to every user.
enum SocketTable {
    /// A socket with its address as the kernel writes it.
    struct Entry: Equatable {
        let address: String
        let state: String
    }

    static let tcpListening = "0A"
    /// Established, or closed by the other side alone.
    static let tcpOpen = ["01", "08"]
    static let unixConnected = "03"

    /// The TCP sockets whose own port is this one; an address looks like "0100007F:1F90".
    static func tcp(port: Int) throws -> [Entry] {
        let hex = String(port, radix: 16, uppercase: true)
        let suffix = ":" + String(repeating: "0", count: 4 - hex.count) + hex
        // Fields: number, own address, other address, state.
        return try (rows("/proc/net/tcp") + rows("/proc/net/tcp6"))
            .filter { $0.count > 3 && $0[1].hasSuffix(suffix) }
            .map { Entry(address: $0[1], state: $0[3]) }
    }

    /// The Unix sockets that are bound to this path, and those accepted from them.
    static func unix(path: String) throws -> [Entry] {
        // Fields: number, references, protocol, flags, type, state, inode, path.
        try rows("/proc/net/unix")
            .filter { $0.count == 8 && $0[7] == path }
            .map { Entry(address: $0[7], state: $0[5]) }
    }

    private static func rows(_ path: String) throws -> [[String]] {
        // One read() gets a page only, and that is all that others do for a file without a size.
        let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
        defer { try? handle.close() }
        let text = String(decoding: try handle.readToEnd() ?? Data(), as: UTF8.self)
        return text.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    }
}
