// SPDX-License-Identifier: Apache-2.0
#include "CLibrarySpeed.h"

#include <gcrypt.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { data_count = 256 << 10 };
static _Alignas(64) uint8_t data[data_count];
static uint8_t key[64], vector[16];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void prepare(void) {
    for (int i = 0; i < 64; i++) key[i] = i * 37 + 1;
}

double openssl_speed(const char *name, bool encrypt, size_t unit, double seconds) {
    prepare();
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    if (!cipher) return 0;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    EVP_CipherInit_ex(context, cipher, NULL, key, vector, encrypt);
    EVP_CIPHER_CTX_set_padding(context, 0);
    size_t step = unit ? unit : 32 << 10;
    double start = now(), bytes = 0;
    while (now() - start < seconds) {
        for (size_t place = 0; place < data_count; place += step) {
            int written;
            vector[0]++;
            if (unit) EVP_CipherInit_ex(context, NULL, NULL, NULL, vector, -1);
            EVP_CipherUpdate(context, data + place, &written, data + place, step);
        }
        bytes += data_count;
    }
    double time = now() - start;
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_free(cipher);
    return bytes / time;
}

double gcrypt_speed(
    const char *name, const char *mode, size_t key_count, bool encrypt, size_t unit, double seconds) {
    prepare();
    int algorithm = gcry_cipher_map_name(name);
    int number = !strcmp(mode, "xts")   ? GCRY_CIPHER_MODE_XTS
                 : !strcmp(mode, "cbc") ? GCRY_CIPHER_MODE_CBC
                 : !strcmp(mode, "ctr") ? GCRY_CIPHER_MODE_CTR
                                        : GCRY_CIPHER_MODE_ECB;
    gcry_cipher_hd_t handle;
    if (!algorithm || gcry_cipher_open(&handle, algorithm, number, 0)) return 0;
    if (gcry_cipher_setkey(handle, key, key_count)) {
        gcry_cipher_close(handle);
        return 0;
    }
    size_t block = gcry_cipher_get_algo_blklen(algorithm);
    size_t step = unit ? unit : 32 << 10;
    double start = now(), bytes = 0;
    while (now() - start < seconds) {
        for (size_t place = 0; place < data_count; place += step) {
            vector[0]++;
            if (unit && number == GCRY_CIPHER_MODE_CTR)
                gcry_cipher_setctr(handle, vector, block);
            else if (unit)
                gcry_cipher_setiv(handle, vector, block);
            if (encrypt)
                gcry_cipher_encrypt(handle, data + place, step, NULL, 0);
            else
                gcry_cipher_decrypt(handle, data + place, step, NULL, 0);
        }
        bytes += data_count;
    }
    double time = now() - start;
    gcry_cipher_close(handle);
    return bytes / time;
}

double openssl_pbkdf2_speed(const char *name, unsigned iterations, double seconds) {
    EVP_MD *hash = EVP_MD_fetch(NULL, name, NULL);
    if (!hash) return 0;
    double start = now(), count = 0;
    for (; now() - start < seconds; count++)
        PKCS5_PBKDF2_HMAC("passphrase", 10, vector, 16, iterations, hash, 20, data);
    EVP_MD_free(hash);
    return count / (now() - start);
}

double gcrypt_pbkdf2_speed(const char *name, unsigned iterations, double seconds) {
    int hash = gcry_md_map_name(name);
    if (!hash) return 0;
    double start = now(), count = 0;
    for (; now() - start < seconds; count++)
        if (gcry_kdf_derive("passphrase", 10, GCRY_KDF_PBKDF2, hash, vector, 16, iterations, 20, data)) return 0;
    return count / (now() - start);
}
