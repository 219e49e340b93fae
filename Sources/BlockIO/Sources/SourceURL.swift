// SPDX-License-Identifier: Apache-2.0

/// A name that says by which protocol an image is reached, and is no path of a file: "https://host/disk", "rbd:pool/image".
public struct SourceURL: Hashable, Sendable {
    /// As it was written, credentials included.
    public let text: String
    /// What is before the colon, in small letters.
    public let scheme: String

    /// What QEMU takes for a protocol without two slashes after it, too: such a name means the same to both.
    private static let protocols: Set<String> = [
        "blkdebug", "blklogwrites", "blkreplay", "blkverify", "fat", "file", "ftp", "ftps", "gluster", "gluster+rdma",
        "gluster+tcp", "gluster+unix", "host_cdrom", "host_device", "http", "https", "iscsi", "iser", "json", "nbd",
        "nbd+unix", "nbds", "nbds+unix", "nfs", "null-aio", "null-co", "nvme", "rbd", "sheepdog", "ssh", "vxhs",
    ]

    /// Nil for what is the path of a file: it has a slash before its first colon, or neither a known protocol before that nor
    /// two slashes behind it.
    public init?(_ text: String) {
        guard let colon = text.firstIndex(of: ":") else { return nil }
        let scheme = text[..<colon].lowercased()
        guard Self.protocols.contains(scheme) || text[colon...].hasPrefix("://") && Self.isScheme(scheme) else {
            return nil
        }
        self.text = text
        self.scheme = scheme
    }

    /// RFC 3986, section 3.1.
    private static func isScheme(_ text: String) -> Bool {
        func isLetter(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) }
        return text.utf8.first.map(isLetter) ?? false
            && text.utf8.allSatisfy { isLetter($0) || "0123456789+-.".utf8.contains($0) }
    }

    /// For people: without a password.
    public var shown: String {
        guard let authority, let at = text[authority].lastIndex(of: "@"),
            let colon = text[authority.lowerBound..<at].firstIndex(of: ":")
        else { return text }
        return String(text[..<colon] + text[at...])
    }

    /// The last part of its path; what comes after that, too, if it is all there is.
    public var lastComponent: String {
        let path = text[(authority?.upperBound ?? text.startIndex)...].prefix { $0 != "?" && $0 != "#" }
        return path.split(separator: "/").last.map(String.init) ?? shown
    }

    /// The name of something else in the same directory of the same server; nil where names have no such form.
    ///
    /// - Parameter name: of one component; means itself, whatever characters it has.
    func beside(_ name: String) -> SourceURL? {
        guard let authority else { return nil }
        let rest = text[authority.upperBound...]
        let path = rest.prefix { $0 != "?" && $0 != "#" }
        let query = rest[path.endIndex...].prefix { $0 != "#" }
        let directory = path.lastIndex(of: "/").map { path[...$0] } ?? "/"
        return SourceURL("\(text[..<authority.upperBound])\(directory)\(PercentEncoding.encoded(name))\(query)")
    }

    /// The place of user, host and port; nil without two slashes.
    private var authority: Range<String.Index>? {
        guard let mark = text.firstRange(of: "://") else { return nil }
        let end = text[mark.upperBound...].firstIndex { "/?#".contains($0) } ?? text.endIndex
        return mark.upperBound..<end
    }
}
