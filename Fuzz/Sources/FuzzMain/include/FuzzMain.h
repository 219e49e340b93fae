// SPDX-License-Identifier: Apache-2.0
// The targets link against this for their main functions.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// libFuzzer's own changes of an input: up to `maximum` bytes at `data`, of which `size` are there. Returns how many there
/// are afterwards.
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t maximum);
