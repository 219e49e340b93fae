// SPDX-License-Identifier: Apache-2.0
//
// The heap is OpenSSL's own: locked pages between guard pages, left out of dumps, every piece wiped when it is freed.
// OpenSSL itself uses it for very little, and libgcrypt not at all; the hooks below make both use it for everything
// that they allocate while a thread handles a key, and wipe what they free of the ordinary heap.
#define _GNU_SOURCE
#include "CSecureHeap.h"

#include <argon2.h>
#include <gcrypt.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { smallest_piece = 64, stack_to_wipe = 32 << 10 };

/// Tried one after the other until one can be locked: RLIMIT_MEMLOCK may be 64 KiB, and secrets need of it, too.
static const size_t heap_sizes[] = {1 << 20, 256 << 10, 32 << 10};

static pthread_once_t started = PTHREAD_ONCE_INIT;
static bool hooked;             // written by the constructor alone
static bool ready, locked;      // written within pthread_once alone
static bool overflowed;         // atomic
static _Thread_local unsigned sensitive;

static void *allocate_secure(size_t count) {
    if (ready) {
        // Should the heap be full, OpenSSL comes back to the hook, which must not come back to the heap.
        unsigned depth = sensitive;
        sensitive = 0;
        void *piece = CRYPTO_secure_malloc(count, __FILE__, __LINE__);
        sensitive = depth;
        if (piece && CRYPTO_secure_allocated(piece)) return piece;
        free(piece);
    }
    __atomic_store_n(&overflowed, true, __ATOMIC_RELAXED);
    return malloc(count);
}

static void *allocate(size_t count) { return sensitive && ready ? allocate_secure(count) : malloc(count); }

static void release(void *piece) {
    if (!piece) return;
    if (CRYPTO_secure_allocated(piece)) {
        CRYPTO_secure_free(piece, __FILE__, __LINE__);
        return;
    }
    explicit_bzero(piece, malloc_usable_size(piece));
    free(piece);
}

static void *reallocate(void *piece, size_t count) {
    if (!piece) return allocate(count);
    if (!count) {
        release(piece);
        return NULL;
    }
    bool secure = CRYPTO_secure_allocated(piece);
    size_t old = secure ? CRYPTO_secure_actual_size(piece) : malloc_usable_size(piece);
    if (secure && count <= old) return piece;
    void *other = secure ? allocate_secure(count) : allocate(count);
    if (!other) return NULL;
    memcpy(other, piece, old < count ? old : count);
    release(piece);
    return other;
}

static void *openssl_allocate(size_t count, const char *file, int line) {
    (void)file, (void)line;
    return count ? allocate(count) : NULL;
}

static void *openssl_reallocate(void *piece, size_t count, const char *file, int line) {
    (void)file, (void)line;
    return reallocate(piece, count);
}

static void openssl_release(void *piece, const char *file, int line) {
    (void)file, (void)line;
    release(piece);
}

static int is_secure(const void *piece) { return CRYPTO_secure_allocated(piece); }

/// Before main: OpenSSL takes hooks only until it allocates for the first time.
__attribute__((constructor)) static void hook(void) {
    hooked = CRYPTO_set_mem_functions(openssl_allocate, openssl_reallocate, openssl_release) == 1;
    gcry_set_allocation_handler(allocate, allocate_secure, is_secure, reallocate, release);
    // At exit(3) other threads may be in the library: it takes nothing away from them. The heap ends with the process.
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
}

static void start(void) {
    for (size_t i = 0; i < sizeof heap_sizes / sizeof *heap_sizes && !locked; i++) {
        CRYPTO_secure_malloc_done();
        locked = CRYPTO_secure_malloc_init(heap_sizes[i], smallest_piece) == 1;
    }
    // Nothing can be locked: the heap is still not dumped, and wiped.
    if (!locked) {
        CRYPTO_secure_malloc_done();
        CRYPTO_secure_malloc_init(heap_sizes[0], smallest_piece);
    }
    ready = CRYPTO_secure_malloc_initialized();
    gcry_check_version(NULL);
    gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

void secure_heap_begin(void) {
    pthread_once(&started, start);
    sensitive++;
}

__attribute__((noinline)) static void wipe_stack(void) {
    char used[stack_to_wipe];
    explicit_bzero(used, sizeof used);
}

void secure_heap_end(void) {
    if (--sensitive == 0) wipe_stack();
}

bool secure_heap_is_locked(void) {
    pthread_once(&started, start);
    return hooked && locked && !__atomic_load_n(&overflowed, __ATOMIC_RELAXED);
}

// MARK: - argon2

/// The one allocation of a derivation, which libargon2 makes in the thread that called it. It is known here because
/// libargon2 does not free it when a thread cannot be started.
static _Thread_local struct {
    void *start;
    size_t count;
} work;

static int allocate_work(uint8_t **memory, size_t count) {
    void *start = mmap(NULL, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return ARGON2_MEMORY_ALLOCATION_ERROR;
    madvise(start, count, MADV_DONTDUMP);
    // A fault for each page of a gigabyte takes longer than the pass over it.
    madvise(start, count, MADV_HUGEPAGE);
    (void)mlock(start, count);
    work.start = start;
    work.count = count;
    *memory = start;
    return ARGON2_OK;
}

/// libargon2 has wiped the memory when it calls this.
static void release_work(uint8_t *memory, size_t count) {
    munmap(memory, count);
    work.start = NULL;
}

static int derive(const struct secure_argon2_request *request, uint32_t threads) {
    argon2_context context = {
        .out = request->key,
        .outlen = request->key_count,
        .pwd = (uint8_t *)request->passphrase,
        .pwdlen = request->passphrase_count,
        .salt = (uint8_t *)request->salt,
        .saltlen = request->salt_count,
        .t_cost = request->time,
        .m_cost = request->memory,
        .lanes = request->lanes,
        .threads = threads,
        .version = ARGON2_VERSION_13,
        .allocate_cbk = allocate_work,
        .free_cbk = release_work,
        .flags = ARGON2_DEFAULT_FLAGS,
    };
    int result = argon2_ctx(&context, request->with_data_independent_start ? Argon2_id : Argon2_i);
    if (work.start) {
        explicit_bzero(work.start, work.count);
        release_work(work.start, work.count);
    }
    return result;
}

int secure_argon2(const struct secure_argon2_request *request) {
    secure_heap_begin();
    int result = derive(request, request->threads);
    if (result == ARGON2_THREAD_FAIL) result = derive(request, 1);
    secure_heap_end();
    return result;
}
