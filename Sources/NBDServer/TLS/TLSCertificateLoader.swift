// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import CSecureHeap
import CTLS
import Glibc

/// Reads the files of ``TLSCertificates`` into an SSL_CTX.
@safe
struct TLSCertificateLoader {
    /// What is doubtful about them.
    private(set) var warnings: [String] = []
    /// What was found out about them that is in order, but that somebody may want to know.
    private(set) var notices: [String] = []
    private let context: OpaquePointer
    private let certificates: TLSCertificates

    init(context: OpaquePointer, certificates: TLSCertificates) {
        unsafe self.context = unsafe context
        self.certificates = certificates
    }

    /// - Throws: ``TLSError``.
    mutating func load() throws(TLSError) {
        try loadCertificate()
        try loadKey()
        guard certificates.verifiesPeer else { return }
        try loadAuthorities()
        try loadRevocations()
        unsafe SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        unsafe SSL_CTX_set_cert_verify_callback(context, verifyClient, nil)
    }

    // MARK: - The server's own

    private mutating func loadCertificate() throws(TLSError) {
        let path = certificates.path("server-cert.pem")
        var count = 0
        try unsafe forEachCertificate(path) { (certificate) throws(TLSError) in
            count += 1
            if count == 1 {
                guard unsafe SSL_CTX_use_certificate(context, certificate) == 1 else {
                    throw refused(path, "make one with a larger key or a newer signature")
                }
                try unsafe checkServerCertificate(certificate, path)
            } else if unsafe tls_add_chain_certificate(context, certificate) != 1 {
                throw refused(path, "leave certificate \(count) out or make a better one")
            }
        }
    }

    private mutating func checkServerCertificate(_ certificate: OpaquePointer, _ path: String) throws(TLSError) {
        if unsafe X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0 {
            warnings.append("the certificate in \(path) has expired, so clients will refuse it; renew it")
        }
        if unsafe X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0 {
            warnings.append("the certificate in \(path) is not valid yet, so clients will refuse it; check the clock")
        }
        if unsafe X509_check_purpose(certificate, X509_PURPOSE_SSL_SERVER, 0) != 1 {
            warnings.append(
                "the certificate in \(path) is not for a server, so clients will refuse it; "
                    + "make one for the purpose serverAuth")
        }
        ERR_clear_error()
    }

    private mutating func loadKey() throws(TLSError) {
        let path = certificates.path("server-key.pem")
        let file = try TLSKeyFile(path, remedy: .certificates)
        if file.isReadableByAll {
            warnings.append("every user of this machine can read the key in \(path); chmod 600 it")
        }
        // Before what follows, which is to hold the key alone.
        tls_prepare_reading_keys()
        // The key, and what OpenSSL makes of it for later, come to lie in locked memory, which is wiped.
        secure_heap_begin()
        defer { secure_heap_end() }
        let key = try unsafe readKey(file.bytes, path)
        defer { unsafe EVP_PKEY_free(key) }
        guard unsafe SSL_CTX_use_PrivateKey(context, key) == 1, unsafe SSL_CTX_check_private_key(context) == 1 else {
            throw refused(path, "it must be the key of the certificate in server-cert.pem beside it")
        }
        unsafe tls_use_key(key)
    }

    /// The caller frees it.
    private func readKey(_ bytes: WipedBytes, _ path: String) throws(TLSError) -> OpaquePointer {
        let bio = try unsafe memory(bytes)
        defer { unsafe BIO_free(bio) }
        // The callback: OpenSSL would ask for a passphrase on the terminal.
        var isLocked = false
        let key = unsafe withUnsafeMutablePointer(to: &isLocked) { isLocked in
            unsafe PEM_read_bio_PrivateKey(
                bio, nil,
                { _, _, _, isLocked in
                    unsafe isLocked?.storeBytes(of: true, as: Bool.self)
                    return -1
                }, isLocked)
        }
        if let key = unsafe key { return unsafe key }
        guard isLocked else { throw refused(path, "it must hold a private key in PEM form") }
        ERR_clear_error()
        throw TLSError(
            "\(path) is protected by a passphrase, which nobody can give to a server that starts by itself; "
                + "put a key without one there, as openssl pkey writes it")
    }

    // MARK: - What clients are checked against

    private func loadAuthorities() throws(TLSError) {
        let path = certificates.path("ca-cert.pem")
        let store = unsafe SSL_CTX_get_cert_store(context)
        try unsafe forEachCertificate(path) { (certificate) throws(TLSError) in
            guard unsafe X509_STORE_add_cert(store, certificate) == 1 else {
                throw refused(path, "make the certificate authority again")
            }
        }
        // A certificate in the file is trusted whoever has signed it.
        unsafe X509_STORE_set_flags(store, UInt(X509_V_FLAG_PARTIAL_CHAIN))
        unsafe tls_build_chain(context)
        ERR_clear_error()
    }

    private mutating func loadRevocations() throws(TLSError) {
        let path = certificates.path("ca-crl.pem")
        guard unsafe access(path, F_OK) == 0 || errno != ENOENT else {
            notices.append("there is no \(path), so that no client's certificate is taken for revoked")
            return
        }
        let store = unsafe SSL_CTX_get_cert_store(context)
        var hasExpired = false
        var count = 0
        try unsafe forEachItem(path, "list of revoked certificates", PEM_read_bio_X509_CRL) { (list) throws(TLSError) in
            defer { unsafe X509_CRL_free(list) }
            count += 1
            guard unsafe X509_STORE_add_crl(store, list) == 1 else { throw refused(path, "make the list again") }
            if let end = unsafe X509_CRL_get0_nextUpdate(list), unsafe X509_cmp_current_time(end) < 0 {
                hasExpired = true
            }
        }
        if hasExpired {
            warnings.append("the list in \(path) has expired, so clients that it covers are refused; renew it")
        }
        notices.append("certificates that \(path) revokes (\(count) \(count == 1 ? "list" : "lists")) are refused")
        // Of all certificates of a chain: an authority that has been revoked vouches for nobody.
        unsafe X509_STORE_set_flags(store, UInt(X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL))
    }

    // MARK: - PEM

    private func forEachCertificate(
        _ path: String, _ body: (OpaquePointer) throws(TLSError) -> Void
    ) throws(TLSError) {
        try unsafe forEachItem(path, "certificate", PEM_read_bio_X509) { (certificate) throws(TLSError) in
            defer { unsafe X509_free(certificate) }
            try unsafe body(certificate)
        }
    }

    private typealias Reader = (
        OpaquePointer?, UnsafeMutablePointer<OpaquePointer?>?,
        (@convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) -> Int32)?,
        UnsafeMutableRawPointer?
    ) -> OpaquePointer?

    /// Gives `body` everything of a kind in a file; it takes ownership.
    private func forEachItem(
        _ path: String, _ kind: String, _ read: Reader, _ body: (OpaquePointer) throws(TLSError) -> Void
    ) throws(TLSError) {
        let bytes = try TLSKeyFile(path, remedy: .certificates).bytes
        let bio = try unsafe memory(bytes)
        defer { unsafe BIO_free(bio) }
        var count = 0
        ERR_clear_error()
        while let item = unsafe read(bio, nil, { _, _, _, _ in -1 }, nil) {
            count += 1
            try unsafe body(item)
        }
        guard tls_is_end_of_pem(ERR_peek_last_error()) == 1 else {
            throw refused(path, "\(kind) \(count + 1) in it must be in PEM form")
        }
        ERR_clear_error()
        guard count > 0 else { throw TLSError("\(path) holds no \(kind) in PEM form; put one there") }
    }

    private func memory(_ bytes: WipedBytes) throws(TLSError) -> OpaquePointer {
        // OpenSSL reads from where the bytes are, which the caller keeps.
        let bio = unsafe bytes.withBytes { bytes in
            unsafe bytes.withUnsafeBytes { bytes in unsafe BIO_new_mem_buf(bytes.baseAddress, Int32(bytes.count)) }
        }
        guard let bio = unsafe bio else { throw TLSError("OpenSSL has no memory for a certificate; try again") }
        return unsafe bio
    }

    private func refused(_ path: String, _ advice: String) -> TLSError {
        TLSError("\(path) cannot be used: \(OpenSSLFault.drain().description); \(advice)")
    }
}
