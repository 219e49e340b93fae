// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CTLS
import Glibc

/// Credentials and settings for TLS, shared by all connections; immutable, for any thread.
///
/// TLS 1.2 and 1.3 with forward secrecy and authenticated encryption; no renegotiation, resumption, compression or
/// early data. With certificates and keys both, the client chooses; one that proves a pre-shared key needs no
/// certificate.
@safe
public final class TLSContext: @unchecked Sendable {
    /// What a client may send as certificates, in bytes, and how many may be between its own and the authority's.
    static let maximumChain = (bytes: 32 << 10, depth: Int32(4))

    /// What is doubtful about the credentials, each a sentence without a full stop.
    public let warnings: [String]
    /// What else the start of the server should tell about them, in the same form.
    public let notices: [String]
    /// Who may connect; nil: whoever has a certificate.
    let allowedNames: [DistinguishedName]?
    let preSharedKeys: PreSharedKeys?
    private let context: OpaquePointer
    private let transport: TLSTransport

    /// - Throws: ``TLSError`` when a file is missing or cannot be used, or when the two contradict each other.
    public init(certificates: TLSCertificates?, preSharedKeys: PreSharedKeys?) throws(TLSError) {
        guard certificates != nil || preSharedKeys != nil else {
            throw TLSError("TLS needs credentials; give \(remedy: .certificates) DIR or \(remedy: .preSharedKeys) FILE")
        }
        self.allowedNames = try Self.allowedNames(certificates)
        self.preSharedKeys = preSharedKeys
        ERR_clear_error()
        guard let transport = TLSTransport(), let context = unsafe SSL_CTX_new(TLS_server_method()) else {
            throw Self.unusable()
        }
        self.transport = transport
        unsafe self.context = unsafe context
        do {
            try unsafe Self.restrict(context)
            var warnings = preSharedKeys?.warnings ?? []
            var notices: [String] = []
            if preSharedKeys != nil { unsafe SSL_CTX_set_psk_server_callback(context, providePreSharedKey) }
            if let certificates {
                var loader = unsafe TLSCertificateLoader(context: context, certificates: certificates)
                try loader.load()
                warnings += loader.warnings
                notices += loader.notices
                if certificates.verifiesPeer, let preSharedKeys {
                    notices.append(
                        "a client gets in with a certificate or with a key of \(preSharedKeys.path): who has such a key "
                            + "is asked for no certificate" + (allowedNames == nil ? "" : ", and for no name"))
                }
            }
            self.warnings = warnings
            self.notices = notices
        } catch {
            // The deinitializer does not run for an object that has not got all of its fields.
            unsafe SSL_CTX_free(context)
            throw error
        }
    }

    deinit { unsafe SSL_CTX_free(context) }

    private static func allowedNames(_ certificates: TLSCertificates?) throws(TLSError) -> [DistinguishedName]? {
        guard let certificates, let names = certificates.allowedNames else { return nil }
        guard certificates.verifiesPeer else {
            throw TLSError("\(remedy: .allowName(nil)) needs client certificates; give \(remedy: .verifyPeers), too")
        }
        var parsed: [DistinguishedName] = []
        for name in names { parsed.append(try DistinguishedName(name)) }
        return parsed
    }

    private static func unusable() -> TLSError {
        TLSError("OpenSSL cannot be set up: \(OpenSSLFault.drain().description); check its installation")
    }

    private static func restrict(_ context: OpaquePointer) throws(TLSError) {
        // The first choice fits pre-shared keys in TLS 1.3, which are tied to SHA-256.
        let suites = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
        // Pre-shared keys first: a client that offers them has one, and may have no certificate.
        let oldSuites =
            "kECDHEPSK+CHACHA20:kDHEPSK+AESGCM+AES128:kDHEPSK+CHACHA20:kDHEPSK+AESGCM:"
            + "ECDHE+AESGCM+AES128:ECDHE+CHACHA20:ECDHE+AESGCM:!aNULL"
        let name = Array("nbdecrypt".utf8)
        guard
            unsafe tls_restrict(context) == 1,
            unsafe SSL_CTX_set_ciphersuites(context, suites) == 1,
            unsafe SSL_CTX_set_cipher_list(context, oldSuites) == 1,
            unsafe SSL_CTX_set_session_id_context(context, name, UInt32(name.count)) == 1
        else { throw unusable() }
        unsafe tls_set_mode(context)
        unsafe tls_set_max_cert_list(context, maximumChain.bytes)
        unsafe SSL_CTX_set_verify_depth(context, maximumChain.depth)
    }

    /// The SSL of a new connection, which reads and writes for `session`, or nil; the caller frees it.
    func makeConnection(for session: TLSSession) -> OpaquePointer? {
        guard let connection = unsafe SSL_new(context) else { return nil }
        guard unsafe transport.attach(to: connection, session) else {
            unsafe SSL_free(connection)
            return nil
        }
        unsafe SSL_set_accept_state(connection)
        return unsafe connection
    }
}

/// OpenSSL's question for the key of a client, in TLS 1.2 and 1.3.
///
/// A stranger gets a random key instead of a refusal, so that it cannot tell which names are known: with either, the
/// proof of the key fails.
private func providePreSharedKey(
    _ connection: OpaquePointer?, _ identity: UnsafePointer<CChar>?, _ key: UnsafeMutablePointer<UInt8>?,
    _ maximum: UInt32
) -> UInt32 {
    guard let session = unsafe TLSTransport.session(of: connection), let identity = unsafe identity,
        let key = unsafe key
    else { return 0 }
    let name = unsafe Array(UnsafeRawBufferPointer(start: identity, count: strlen(identity)))
    let target = unsafe UnsafeMutableRawBufferPointer(start: key, count: Int(maximum))
    let count = session.context.preSharedKeys?.withKey(of: name) { found -> Int in
        guard found.byteCount <= target.count else { return 0 }
        unsafe found.withUnsafeBytes { found in unsafe target.copyMemory(from: found) }
        return found.byteCount
    }
    session.clientClaims(identity: name, isKnown: count != nil)
    if let count { return UInt32(count) }
    let decoy = Int32(min(32, maximum))
    return unsafe RAND_bytes(key, decoy) == 1 ? UInt32(decoy) : 0
}
