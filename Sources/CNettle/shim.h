// SPDX-License-Identifier: Apache-2.0
#include <nettle/cbc.h>
#include <nettle/ctr.h>
#include <nettle/nettle-meta.h>
#include <nettle/xts.h>

/// The block cipher with this name, or NULL.
static inline const struct nettle_cipher *nettle_cipher_named(const char *name) {
    for (const struct nettle_cipher *const *cipher = nettle_get_ciphers(); *cipher; cipher++) {
        const char *a = (*cipher)->name, *b = name;
        while (*a && *a == *b) a++, b++;
        if (*a == *b) return *cipher;
    }
    return 0;
}
