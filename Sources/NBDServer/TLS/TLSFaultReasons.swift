// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CTLS

extension OpenSSLFault {
    /// Whether this is how a client with a wrong pre-shared key fails.
    var isWrongKey: Bool {
        [SSL_R_BINDER_DOES_NOT_VERIFY, SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, SSL_R_DIGEST_CHECK_FAILED]
            .contains(reason ?? 0)
    }

    /// Why a handshake has failed, for the log: a sentence without a full stop.
    var handshakeReason: Sentence {
        switch reason {
        case SSL_R_UNEXPECTED_EOF_WHILE_READING: "the client hung up during the TLS handshake"
        case SSL_R_WRONG_VERSION_NUMBER, SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST, SSL_R_UNEXPECTED_MESSAGE,
            SSL_R_RECORD_LENGTH_MISMATCH, SSL_R_PACKET_LENGTH_TOO_LONG, SSL_R_ENCRYPTED_LENGTH_TOO_LONG:
            "the client asked for TLS and then sent something else (\(description))"
        case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW:
            "the client has no newer TLS than 1.1; use a client that has TLS 1.2 or 1.3"
        case SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, SSL_R_NO_SUITABLE_KEY_SHARE:
            "the client has no credentials or ciphers of the kind that this server uses (\(description)); "
                + "compare \(remedy: .certificates) and \(remedy: .preSharedKeys) with what the client is told"
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
            "the client showed no certificate, which \(remedy: .verifyPeers) demands; give it one"
        case SSL_R_TLSV1_ALERT_UNKNOWN_CA, SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN,
            SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
            "the client does not trust server-cert.pem (\(description)); it needs the ca-cert.pem that signed it"
        default: "the TLS handshake has failed: \(description)"
        }
    }
}
