// SPDX-License-Identifier: Apache-2.0
// OpenSSL's TLS, and functions for those of its macros that Swift cannot see.
#ifndef NBDECRYPT_CTLS_H
#define NBDECRYPT_CTLS_H

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/// TLS 1.2 and 1.3; no renegotiation, compression, tickets, sessions or early data; the server chooses the cipher suite.
static inline int tls_restrict(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_security_level(context, 2);
    return SSL_CTX_set_num_tickets(context, 0) == 1 && SSL_CTX_set_max_early_data(context, 0) == 1 &&
           SSL_CTX_set_recv_max_early_data(context, 0) == 1 && SSL_CTX_set_dh_auto(context, 1) == 1 &&
           SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1;
}

/// How SSL_read and SSL_write behave on a socket that never waits.
static inline void tls_set_mode(SSL_CTX *context) {
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    // A client that sends messages of TLS alone must not keep SSL_read busy for ever.
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_read_ahead(context, 1);
}

/// The longest list of certificates that a client may send, in bytes.
static inline void tls_set_max_cert_list(SSL_CTX *context, long count) { SSL_CTX_set_max_cert_list(context, count); }

/// Adds a certificate to those sent behind that of the server; 1 when it worked.
static inline int tls_add_chain_certificate(SSL_CTX *context, X509 *certificate) {
    return SSL_CTX_add1_chain_cert(context, certificate) == 1;
}

/// Completes the chain that is sent from the certificates of the store, now instead of for every client.
static inline void tls_build_chain(SSL_CTX *context) {
    SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_build_cert_chain(context, SSL_BUILD_CHAIN_FLAG_UNTRUSTED | SSL_BUILD_CHAIN_FLAG_NO_ROOT |
                                          SSL_BUILD_CHAIN_FLAG_IGNORE_ERROR | SSL_BUILD_CHAIN_FLAG_CLEAR_ERROR);
}

/// Has OpenSSL fetch what it reads private keys with, which stays with it and is not secret, by a key that is none.
static inline void tls_prepare_reading_keys(void) {
    static const char none[] = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    BIO *bio = BIO_new_mem_buf(none, sizeof none - 1);
    EVP_PKEY_free(PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL));
    BIO_free(bio);
    ERR_clear_error();
}

/// Signs with a private key what nobody looks at: OpenSSL computes from the key, once, what it uses for all signatures.
static inline void tls_use_key(EVP_PKEY *key) {
    unsigned char signature[2048];
    size_t count = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    // Ed25519 and its like have no digest.
    if (context && (EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 ||
                    EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1))
        EVP_DigestSign(context, signature, &count, signature, 0);
    EVP_MD_CTX_free(context);
    ERR_clear_error();
}

/// Overwrites the key from which those of a connection were made, when its handshake is over: with a pre-shared key in
/// TLS 1.3, that is this key itself. Nothing needs it any more, for no session is resumed and none renegotiated.
static inline void tls_forget_session_key(SSL *connection) {
    static const unsigned char zeros[SSL_MAX_MASTER_KEY_LENGTH];
    SSL_SESSION *session = SSL_get_session(connection);
    if (session) SSL_SESSION_set1_master_key(session, zeros, sizeof zeros);
}

/// Tells OpenSSL why a BIO did nothing: it would have had to wait.
static inline void tls_bio_would_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline void tls_bio_would_write(BIO *bio) { BIO_set_retry_write(bio); }
static inline void tls_bio_clear(BIO *bio) { BIO_clear_retry_flags(bio); }

/// Whether nothing is left in a PEM file, rather than something that cannot be read.
static inline int tls_is_end_of_pem(unsigned long error) {
    return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

#endif
