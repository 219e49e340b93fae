// SPDX-License-Identifier: Apache-2.0
//
// SwiftPM makes TARGET_main the main function of an executable target, so libFuzzer's own is never linked.
#include "FuzzMain.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *data, size_t size));

#define ENTRY(name) \
    int name(int argc, char **argv) { return LLVMFuzzerRunDriver(&argc, &argv, LLVMFuzzerTestOneInput); }

ENTRY(FuzzQcow2_main)
ENTRY(FuzzQcow2Writes_main)
ENTRY(FuzzQcow2Snapshots_main)
ENTRY(FuzzQcow2Bitmaps_main)
ENTRY(FuzzAudit_main)
ENTRY(FuzzQcow_main)
ENTRY(FuzzOptions_main)
ENTRY(FuzzRequests_main)
ENTRY(FuzzConnection_main)
ENTRY(FuzzReplies_main)
ENTRY(FuzzContentCheck_main)
ENTRY(FuzzLUKS1_main)
ENTRY(FuzzLUKS2Header_main)
ENTRY(FuzzLUKS2JSON_main)
ENTRY(FuzzReferenceNames_main)
ENTRY(FuzzPartitions_main)
ENTRY(FuzzLVM_main)
