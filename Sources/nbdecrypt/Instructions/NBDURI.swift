// SPDX-License-Identifier: Apache-2.0

import BlockIO

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
        let user = user.map { "\(PercentEncoding.encoded($0))@" } ?? ""
        return "\(scheme)://\(user)\(authority)/\(PercentEncoding.encoded(exportName, keeping: "/"))\(query)"
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
            if let value { parameters.append("\(name)=\(PercentEncoding.encoded(value, keeping: "/"))") }
        }
        if case .unix(let path) = place { add("socket", path) }
        add("tls-psk-file", keyFile)
        add("tls-certificates", certificates)
        return parameters.isEmpty ? "" : "?" + parameters.joined(separator: "&")
    }

    private static func host(_ host: String) -> String {
        guard host.contains(":") else { return PercentEncoding.encoded(host) }
        // RFC 6874: the % before a zone is encoded too.
        let parts = host.split(separator: "%", maxSplits: 1).map(String.init)
        return "[\(parts[0])\(parts.count > 1 ? "%25\(PercentEncoding.encoded(parts[1]))" : "")]"
    }
}
