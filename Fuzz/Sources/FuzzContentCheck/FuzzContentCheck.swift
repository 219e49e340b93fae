// SPDX-License-Identifier: Apache-2.0

import ImageFormats
import TestSupport

/// A decrypted disk.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzContentCheck(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let device = MemoryDevice(unsafe Array(UnsafeBufferPointer(start: start, count: count)))
    let check = ContentCheck.examine(device)
    precondition(!check.summary.isEmpty && check.summary.utf8.count < 4096)
    precondition(device.readCount <= 8192)
    return 0
}
