// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import Logging
import NBDServer

/// The options for TLS.
struct TLSOptions: ParsableArguments {
    /// Whether clients use TLS.
    enum Mode: String, ExpressibleByArgument, CaseIterable {
        /// They must.
        case require
        /// They may.
        case allow
        /// They cannot.
        case off
    }

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Whether clients use TLS: require (they must; the default with keys or certificates), allow or off.",
            valueName: "mode"))
    var tls: Mode?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Show clients the certificate in this directory: server-cert.pem, server-key.pem, ca-cert.pem and "
                + "ca-crl.pem.", valueName: "dir"))
    var tlsCerts: String?

    @Flag(name: .long, help: "Let in only clients with a certificate that ca-cert.pem vouches for.")
    var tlsVerifyPeer = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Let in only clients whose certificate has this distinguished name (CN=laptop,O=Home). Can be repeated.",
            valueName: "name"))
    var tlsAllowDn: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Let in clients with a key of this file (psktool's format), or of one made for this run: auto.",
            valueName: "file|auto"))
    var tlsPsk: String?

    func validate() throws {
        guard tlsCerts?.isEmpty != true else { throw ValidationError("--tls-certs takes a directory.") }
        guard tlsPsk?.isEmpty != true else { throw ValidationError("--tls-psk takes a file, or auto.") }
        guard tlsAllowDn.allSatisfy({ !$0.isEmpty }) else {
            throw ValidationError("--tls-allow-dn takes a distinguished name, such as CN=alice.")
        }
        guard tlsAllowDn.isEmpty || tlsVerifyPeer else {
            throw ValidationError(
                "--tls-allow-dn has an effect only where clients have to show a certificate: add --tls-verify-peer.")
        }
        guard !tlsVerifyPeer || tlsCerts != nil else {
            throw ValidationError(
                "--tls-verify-peer needs the certificate authority that vouches for clients: add --tls-certs DIR.")
        }
        guard !tlsVerifyPeer || isRequired else {
            throw ValidationError(
                "--tls=\(mode.rawValue) lets in clients without TLS, which show no certificate: leave it or "
                    + "--tls-verify-peer out.")
        }
        if let tls, tls != .off, !hasCredentials {
            throw ValidationError(
                "--tls=\(tls.rawValue) needs a key or a certificate: add --tls-psk=auto or --tls-certs DIR.")
        }
    }

    private var hasCredentials: Bool { tlsCerts != nil || tlsPsk != nil }
    private var mode: Mode { tls ?? (hasCredentials ? .require : .off) }

    /// Whether nothing crosses a connection in the clear.
    var isRequired: Bool { mode == .require }

    /// Makes a key for this run, if it was asked for; removing it is the caller's duty.
    /// - Throws: ``Failure``.
    func makeOneTimeKey() throws -> OneTimeKey? { mode != .off && tlsPsk == "auto" ? try OneTimeKey() : nil }

    /// Reads keys and certificates, and says what is doubtful about them, and who can get in.
    /// - Throws: ``Failure``.
    func policy(_ oneTimeKey: OneTimeKey?, _ log: Logger) throws -> TLSPolicy {
        if mode == .off {
            if hasCredentials {
                log.warning("--tls=off: keys and certificates are not used, clients connect in the clear")
            }
            return .off
        }
        do {
            let keys = try keyFile(oneTimeKey).map { try PreSharedKeys(path: $0) }
            let certificates = tlsCerts.map {
                TLSCertificates(
                    directory: Process.absolutePath($0), verifiesPeer: tlsVerifyPeer,
                    allowedNames: tlsAllowDn.isEmpty ? nil : tlsAllowDn)
            }
            let context = try TLSContext(certificates: certificates, preSharedKeys: keys)
            for warning in context.warnings { log.warning("\(warning)") }
            for notice in context.notices { log.notice("\(notice)") }
            return mode == .require ? .require(context) : .allow(context)
        } catch let error as TLSError {
            throw Failure(.cannotOpen, error.worded)
        }
    }

    private func keyFile(_ oneTimeKey: OneTimeKey?) -> String? { oneTimeKey?.path ?? tlsPsk.map(Process.absolutePath) }

    /// What clients need under a policy; nil without TLS. Keys before certificates.
    func clientCredentials(_ policy: TLSPolicy, _ oneTimeKey: OneTimeKey?) -> ClientCredentials? {
        if mode == .off { return nil }
        if let file = keyFile(oneTimeKey) { return .preSharedKey(user: policy.firstUser ?? "USER", file: file) }
        return tlsCerts.map {
            ClientCredentials(serverDirectory: Process.absolutePath($0), verifiesClients: tlsVerifyPeer)
        }
    }
}
