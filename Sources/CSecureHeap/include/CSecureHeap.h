// SPDX-License-Identifier: Apache-2.0
// Where OpenSSL, libgcrypt and libargon2 put what they make of a key: memory that is locked, not dumped and wiped.
#ifndef NBDECRYPT_CSECUREHEAP_H
#define NBDECRYPT_CSECUREHEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// From here to the matching secure_heap_end, what the libraries allocate in this thread comes from the secure heap.
/// May be nested. The first call makes the heap and initialises libgcrypt; any thread may be first.
void secure_heap_begin(void);

/// Ends the innermost secure_heap_begin; the outermost one also wipes the stack that the calls between used.
void secure_heap_end(void);

/// Whether all that was ever asked of the secure heap is in locked pages. False when the system refused to lock, when
/// the heap was too small once, or when another part of the process used OpenSSL before the heap could be hooked in.
bool secure_heap_is_locked(void);

/// What argon2 is asked for; version 1.3, without secret and associated data.
struct secure_argon2_request {
    bool with_data_independent_start;  // argon2id; otherwise argon2i
    uint32_t time;                     // passes
    uint32_t memory;                   // KiB
    uint32_t lanes;
    uint32_t threads;                  // that work on the lanes; 1 when no more can be started
    const void *passphrase;
    size_t passphrase_count;
    const void *salt;
    size_t salt_count;
    void *key;
    size_t key_count;
};

/// Derives a key in memory that is not dumped, locked if that is allowed, and wiped and unmapped before this returns.
/// Returns ARGON2_OK (0) or one of libargon2's codes, for which argon2_error_message has a sentence.
int secure_argon2(const struct secure_argon2_request *request);

#endif
