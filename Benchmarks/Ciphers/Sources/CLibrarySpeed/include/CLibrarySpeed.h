// SPDX-License-Identifier: Apache-2.0
// How fast a library decrypts and encrypts, called as nbdecrypt would call it.
#ifndef NBDECRYPT_CLIBRARYSPEED_H
#define NBDECRYPT_CLIBRARYSPEED_H

#include <stdbool.h>
#include <stddef.h>

/// Bytes in a second that OpenSSL decrypts or encrypts, or 0 when it does not have the cipher ("AES-128-CBC").
/// `unit`: what one initialization vector is for, in bytes; 0 for a mode without vectors.
double openssl_speed(const char *cipher, bool encrypt, size_t unit, double seconds);

/// The same of libgcrypt ("AES", "cbc").
double gcrypt_speed(
    const char *cipher, const char *mode, size_t key_count, bool encrypt, size_t unit, double seconds);

/// Derivations in a second of PBKDF2 with `iterations`, or 0 when the library does not have the hash.
double openssl_pbkdf2_speed(const char *hash, unsigned iterations, double seconds);
double gcrypt_pbkdf2_speed(const char *hash, unsigned iterations, double seconds);

#endif
