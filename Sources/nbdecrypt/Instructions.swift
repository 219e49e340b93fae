// SPDX-License-Identifier: Apache-2.0

import BlockIO
import NBDServer

/// The address of an export and the commands that read it, ready to paste.
struct Instructions {
    let address: SocketAddress
    /// The default one first.
    let exports: [Export]
    let image: String

    private var export: Export { exports[0] }

    /// The export's NBD URI.
    var uri: String { uri(export) }

    private func uri(_ export: Export) -> String {
        let name = Self.percentEncoded(export.name, allowing: "/")
        return switch address {
        case .unix(let path): "nbd+unix:///\(name)?socket=\(Self.percentEncoded(path, allowing: "/"))"
        case .tcp(let host, let port, _): "nbd://\(Self.uriHost(host)):\(port)/\(name)"
        case .other: "nbd://unknown-address/\(name)"
        }
    }

    /// What to tell the person who started the server.
    var text: String {
        let uri = Self.quoted(uri)
        // A comma ends a value in QEMU's options unless it is doubled.
        let drive = Self.quoted("file=\(self.uri.replacing(",", with: ",,")),format=raw,if=virtio,readonly=on")
        return """
            Serving \(image) (\(export.description)), read-only, \(export.device.size) bytes
              \(self.uri)
            Copy it:    qemu-img convert -p -f raw -O qcow2 \(uri) copy.qcow2
                        nbdcopy -p \(uri) copy.raw
            Attach it:  sudo nbd-client \(nbdClient) /dev/nbd0 -readonly
            Boot it:    qemu-system-x86_64 -m 2G -drive \(drive)\(others)
            Stop with ctrl-C.
            """
    }

    /// Further exports, a line each.
    private var others: String {
        guard exports.count > 1 else { return "" }
        let lines = exports.dropFirst().map { "\n  \(uri($0))\n    \($0.description), \($0.device.size) bytes" }
        return "\nMore exports:" + lines.joined()
    }

    private var nbdClient: String {
        let name = export.name.isEmpty ? "" : " -name \(Self.quoted(export.name))"
        return switch address {
        case .unix(let path): "-unix \(Self.quoted(path))\(name)"
        case .tcp(let host, let port, _): "\(host == "0.0.0.0" || host == "::" ? "HOST" : host) \(port)\(name)"
        case .other: "HOST\(name)"
        }
    }

    /// A host for a URI. Clients need a name or address of this machine where the server listens on all of them.
    private static func uriHost(_ host: String) -> String {
        if host == "0.0.0.0" || host == "::" { return "HOST" }
        // RFC 6874: the % before an interface is encoded.
        return host.contains(":") ? "[\(host.replacing("%", with: "%25"))]" : host
    }

    /// A file name for a shell line; one that looks like an option is none behind its directory.
    static func fileArgument(_ path: String) -> String { quoted(path.hasPrefix("-") ? "./\(path)" : path) }

    /// For the shell.
    static func quoted(_ text: String) -> String {
        let plain = text.utf8.allSatisfy { byte in
            byte != UInt8(ascii: "~") && (isUnreserved(byte) || "/:=,+@%".utf8.contains(byte))
        }
        return plain && !text.isEmpty ? text : "'\(text.replacing("'", with: "'\\''"))'"
    }

    private static func percentEncoded(_ text: String, allowing extra: String) -> String {
        text.utf8.map { byte in
            if isUnreserved(byte) || extra.utf8.contains(byte) { return String(UnicodeScalar(byte)) }
            let digits = String(byte, radix: 16, uppercase: true)
            return "%" + (digits.count == 1 ? "0" : "") + digits
        }.joined()
    }

    /// RFC 3986, "Unreserved Characters".
    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            true
        default: false
        }
    }
}
