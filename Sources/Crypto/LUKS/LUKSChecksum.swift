// SPDX-License-Identifier: Apache-2.0

import COpenSSL

/// The checksum of a LUKS2 header.
enum LUKSChecksum {
    /// The hash of `parts`, one after the other; nil when there is no hash of that name.
    static func compute(_ name: String, _ parts: [[UInt8]]) -> [UInt8]? {
        guard let context = unsafe EVP_MD_CTX_new() else { return nil }
        defer { unsafe EVP_MD_CTX_free(context) }
        guard let hash = unsafe EVP_get_digestbyname(name), unsafe EVP_DigestInit_ex(context, hash, nil) == 1 else {
            return nil
        }
        for part in parts { guard unsafe EVP_DigestUpdate(context, part, part.count) == 1 else { return nil } }
        var result = [UInt8](repeating: 0, count: 64)
        var count: UInt32 = 0
        guard unsafe EVP_DigestFinal_ex(context, &result, &count) == 1 else { return nil }
        return Array(result.prefix(Int(count)))
    }
}
