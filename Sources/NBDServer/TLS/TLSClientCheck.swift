// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CTLS

/// OpenSSL's question whether the certificate of a client is good; a refused client gets an alert.
///
/// The allow-list is asked here and not after the handshake, so that the client is told before it sends anything.
func verifyClient(_ store: OpaquePointer?, _: UnsafeMutableRawPointer?) -> Int32 {
    let connection = unsafe OpaquePointer(
        X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()))
    guard let session = unsafe TLSTransport.session(of: connection) else { return 0 }
    guard unsafe X509_verify_cert(store) == 1 else {
        session.refuse(certificate: unsafe fault(store))
        return 0
    }
    guard let allowed = session.context.allowedNames else { return 1 }
    let name = unsafe DistinguishedName(subjectOf: X509_STORE_CTX_get0_cert(store))
    if let name, allowed.contains(name) { return 1 }
    unsafe X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION)
    session.refuse(
        certificate: name.map { name -> Sentence in
            "the client's certificate is for \(name), which is not allowed; if it should be, "
                + "add \(remedy: .allowName(name.description))"
        } ?? "the client's certificate has a name that cannot be read")
    return 0
}

private func fault(_ store: OpaquePointer?) -> Sentence {
    let error = unsafe X509_STORE_CTX_get_error(store)
    let words = unsafe String(cString: X509_verify_cert_error_string(Int(error)))
    let depth = unsafe X509_STORE_CTX_get_error_depth(store)
    let certificate = unsafe X509_STORE_CTX_get_current_cert(store) ?? X509_STORE_CTX_get0_cert(store)
    let name = unsafe DistinguishedName(subjectOf: certificate)?.description ?? "a name that cannot be read"
    let advice =
        switch error {
        case X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID: "renew it, or check the clock"
        case X509_V_ERR_CERT_REVOKED: "ca-crl.pem lists it"
        case X509_V_ERR_CRL_HAS_EXPIRED: "renew ca-crl.pem"
        case X509_V_ERR_UNABLE_TO_GET_CRL: "ca-crl.pem must have a list of every authority above the client"
        default: "it must be signed by a certificate in ca-cert.pem, for the purpose clientAuth"
        }
    let whose = depth == 0 ? "the client's certificate" : "the certificate above the client's"
    return "\(whose), for \(name), is refused: \(words); \(advice)"
}

extension DistinguishedName {
    /// The subject of an X509; nil without one, or when part of it is no text.
    init?(subjectOf certificate: OpaquePointer?) {
        guard let certificate = unsafe certificate, let name = unsafe X509_get_subject_name(certificate) else {
            return nil
        }
        var components: [[Attribute]] = []
        var previous: Int32?
        for index in 0..<(unsafe X509_NAME_entry_count(name)) {
            let entry = unsafe X509_NAME_get_entry(name, index)
            guard let type = unsafe Self.type(X509_NAME_ENTRY_get_object(entry)),
                let value = unsafe Self.text(X509_NAME_ENTRY_get_data(entry))
            else { return nil }
            let attribute = Attribute(type: type, value: value)
            // Attributes of one component have the same number.
            let set = unsafe X509_NAME_ENTRY_set(entry)
            if set == previous, let last = components.popLast() {
                components.append(last + [attribute])
            } else {
                components.append([attribute])
            }
            previous = set
        }
        // A certificate begins with the least specific one.
        self.init(components: components.reversed())
    }

    private static func type(_ object: OpaquePointer?) -> String? {
        var text = [CChar](repeating: 0, count: 256)
        let count = unsafe Int(OBJ_obj2txt(&text, Int32(text.count), object, 1))
        guard count > 0, count < text.count else { return nil }
        return String(validating: text[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func text(_ value: UnsafePointer<ASN1_STRING>?) -> String? {
        var bytes: UnsafeMutablePointer<UInt8>?
        let count = unsafe ASN1_STRING_to_UTF8(&bytes, value)
        defer { unsafe CRYPTO_free(bytes, nil, 0) }
        guard count >= 0, let bytes = unsafe bytes else {
            ERR_clear_error()
            return nil
        }
        return unsafe String(validating: UnsafeBufferPointer(start: bytes, count: Int(count)), as: UTF8.self)
    }
}
