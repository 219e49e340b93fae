// SPDX-License-Identifier: Apache-2.0
// Nothing to import: the targets only link against this.
