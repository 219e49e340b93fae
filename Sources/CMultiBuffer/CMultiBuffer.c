// SPDX-License-Identifier: Apache-2.0
//
// The library is for x86-64 alone and has an interface of structures, which change from version to version. So it is
// loaded when it is first needed, and only in the version whose header this was compiled with; without one, and without the
// other, there is none.
#include "CMultiBuffer.h"

#if defined(__x86_64__) && __has_include(<intel-ipsec-mb.h>)

#include <CLinux.h>
#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_once_t started = PTHREAD_ONCE_INIT;
// Written within pthread_once alone.
static bool there;
static size_t manager_size;
static __typeof__(&imb_set_pointers_mb_mgr) set_pointers;
static __typeof__(&init_mb_mgr_auto) start_manager;

static void start(void) {
    char name[64];
    snprintf(name, sizeof name, "libIPSec_MB.so.%d", IMB_VERSION_NUM >> 16);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    __typeof__(&imb_get_version) version = (__typeof__(version))dlsym(library, "imb_get_version");
    __typeof__(&imb_get_mb_mgr_size) size = (__typeof__(size))dlsym(library, "imb_get_mb_mgr_size");
    set_pointers = (__typeof__(set_pointers))dlsym(library, "imb_set_pointers_mb_mgr");
    start_manager = (__typeof__(start_manager))dlsym(library, "init_mb_mgr_auto");
    if (!version || !size || !set_pointers || !start_manager || version() != IMB_VERSION_NUM) return;
    manager_size = (size() + 63) & ~(size_t)63;
    // Without its instructions, AES is in tables here, whose use tells of the key, and no faster than elsewhere.
    there = __builtin_cpu_supports("aes");
}

bool multi_buffer_is_there(void) {
    pthread_once(&started, start);
    return there;
}

enum { schedule_size = 16 * (14 + 1) };

/// At the start of pages of its own, which the manager follows: it remembers keys and what is encrypted with them.
struct multi_buffer {
    _Alignas(64) unsigned char encrypting[schedule_size];
    _Alignas(64) unsigned char decrypting[schedule_size];
    size_t key_count;
    size_t page_count;
    IMB_MGR *manager;
};

struct multi_buffer *multi_buffer_make(const void *key, size_t key_count, bool *is_protected) {
    if (!multi_buffer_is_there() || (key_count != 16 && key_count != 24 && key_count != 32)) return NULL;
    size_t count = sizeof(struct multi_buffer) + manager_size;
    struct multi_buffer *made = linux_take_secret_pages(&count, is_protected);
    if (!made) return NULL;
    made->page_count = count;
    made->key_count = key_count;
    made->manager = set_pointers(made + 1, 0, 1);
    if (made->manager) start_manager(made->manager, NULL);
    if (!made->manager || !made->manager->submit_cipher_burst) {
        linux_release_secret_pages(made, count);
        return NULL;
    }
    switch (key_count) {
        case 16: IMB_AES_KEYEXP_128(made->manager, key, made->encrypting, made->decrypting); break;
        case 24: IMB_AES_KEYEXP_192(made->manager, key, made->encrypting, made->decrypting); break;
        default: IMB_AES_KEYEXP_256(made->manager, key, made->encrypting, made->decrypting); break;
    }
    return made;
}

void multi_buffer_release(struct multi_buffer *made) { linux_release_secret_pages(made, made->page_count); }

bool multi_buffer_encrypt(struct multi_buffer *made, void *bytes, size_t unit, size_t count, const void *vectors) {
    if (count > multi_buffer_most_chains) return false;
    IMB_JOB jobs[multi_buffer_most_chains];
    memset(jobs, 0, count * sizeof *jobs);
    for (size_t i = 0; i < count; i++) {
        jobs[i].enc_keys = made->encrypting;
        jobs[i].dec_keys = made->decrypting;
        jobs[i].src = jobs[i].dst = (uint8_t *)bytes + i * unit;
        jobs[i].msg_len_to_cipher_in_bytes = unit;
        jobs[i].iv = (const uint8_t *)vectors + 16 * i;
        jobs[i].iv_len_in_bytes = 16;
    }
    return IMB_SUBMIT_CIPHER_BURST(made->manager, jobs, (uint32_t)count, IMB_CIPHER_CBC, IMB_DIR_ENCRYPT,
                                   (IMB_KEY_SIZE_BYTES)made->key_count) == count;
}

#else

bool multi_buffer_is_there(void) { return false; }

struct multi_buffer *multi_buffer_make(const void *key, size_t key_count, bool *is_protected) {
    (void)key, (void)key_count, (void)is_protected;
    return NULL;
}

void multi_buffer_release(struct multi_buffer *made) { (void)made; }

bool multi_buffer_encrypt(struct multi_buffer *made, void *bytes, size_t unit, size_t count, const void *vectors) {
    (void)made, (void)bytes, (void)unit, (void)count, (void)vectors;
    return false;
}

#endif
