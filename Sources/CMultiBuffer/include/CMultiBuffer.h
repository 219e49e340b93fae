// SPDX-License-Identifier: Apache-2.0
// AES-CBC that encrypts several chains side by side: Intel's Multi-Buffer Crypto for IPsec, on machines that have it.
#ifndef NBDECRYPT_CMULTIBUFFER_H
#define NBDECRYPT_CMULTIBUFFER_H

#include <stdbool.h>
#include <stddef.h>

/// How many chains one call takes at most.
enum { multi_buffer_most_chains = 64 };

/// Whether the library was there when this was built, is there in the same version now, and the processor has AES
/// instructions. The first call loads it, which takes a millisecond; any thread may be first.
bool multi_buffer_is_there(void);

/// A key with room for what the library makes of it, for one thread at a time.
struct multi_buffer;

/// Makes one for a key of AES: 16, 24 or 32 bytes. NULL when the library is not there, for another key, or without memory.
/// `is_protected`: whether all of it is locked into memory and left out of dumps.
struct multi_buffer *multi_buffer_make(const void *key, size_t key_count, bool *is_protected);

/// Wipes it and gives its memory back.
void multi_buffer_release(struct multi_buffer *);

/// Encrypts `count` chains of `unit` bytes each, one behind the other, in place. `vectors`: 16 bytes for each. False when
/// the library refuses: then the bytes are what they were, or lost.
bool multi_buffer_encrypt(struct multi_buffer *, void *bytes, size_t unit, size_t count, const void *vectors);

#endif
