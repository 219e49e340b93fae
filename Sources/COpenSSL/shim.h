// SPDX-License-Identifier: Apache-2.0
#include <openssl/evp.h>
#include <openssl/err.h>
#include <openssl/crypto.h>
