// SPDX-License-Identifier: Apache-2.0

/// The address of an export as NBD clients read it (doc/uri.md of the NBD project, RFC 3986).
///
/// The schemes for vsock and the parameters for TLS are those of libnbd, nbd_connect_uri(3).
struct NBDURI: Equatable, CustomStringConvertible {
    /// Where the server is.
    enum Place: Equatable {
        /// `host` is a name, an IPv4 address or an IPv6 address, with or without a zone as in `fe80::1%eth0`.
        case tcp(host: String, port: UInt16)
        case unix(path: String)
        case vsock(cid: UInt32, port: UInt32)
    }

    let place: Place
    /// Empty for the default export.
    var exportName = ""
    /// Clients must refuse to connect without TLS.
    var isEncrypted = false
    /// The name of a pre-shared key.
    var user: String?
    /// The client's file of pre-shared keys.
    var keyFile: String?
    /// The client's directory of certificates.
    var certificates: String?

    var description: String {
        let user = user.map { "\(Self.encoded($0))@" } ?? ""
        return "\(scheme)://\(user)\(authority)/\(Self.encoded(exportName, keeping: "/"))\(query)"
    }

    private var scheme: String {
        let name = isEncrypted ? "nbds" : "nbd"
        return switch place {
        case .tcp: name
        case .unix: "\(name)+unix"
        case .vsock: "\(name)+vsock"
        }
    }

    private var authority: String {
        switch place {
        case .tcp(let host, let port): "\(Self.host(host)):\(port)"
        case .unix: ""
        case .vsock(let cid, let port): "\(cid):\(port)"
        }
    }

    private var query: String {
        var parameters: [String] = []
        func add(_ name: String, _ value: String?) {
            if let value { parameters.append("\(name)=\(Self.encoded(value, keeping: "/"))") }
        }
        if case .unix(let path) = place { add("socket", path) }
        add("tls-psk-file", keyFile)
        add("tls-certificates", certificates)
        return parameters.isEmpty ? "" : "?" + parameters.joined(separator: "&")
    }

    private static func host(_ host: String) -> String {
        guard host.contains(":") else { return encoded(host) }
        // RFC 6874: the % before a zone is encoded too.
        let parts = host.split(separator: "%", maxSplits: 1).map(String.init)
        return "[\(parts[0])\(parts.count > 1 ? "%25\(encoded(parts[1]))" : "")]"
    }

    /// Percent-encodes all that is not unreserved (RFC 3986, section 2): `&`, `+` and `;` too, which some parsers of
    /// queries take for more than text.
    private static func encoded(_ text: String, keeping extra: String = "") -> String {
        text.utf8.map { byte in
            if isUnreserved(byte) || extra.utf8.contains(byte) { return String(UnicodeScalar(byte)) }
            let digits = String(byte, radix: 16, uppercase: true)
            return "%" + (digits.count == 1 ? "0" : "") + digits
        }.joined()
    }

    /// RFC 3986, section 2.3.
    static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            true
        default: false
        }
    }
}
