// SPDX-License-Identifier: Apache-2.0

import CTLS
import Glibc

/// What OpenSSL last put into the error queue of this thread.
struct OpenSSLFault {
    /// The number with library and reason; 0 when the queue was empty.
    let code: UInt

    /// The reason within the library of TLS, one of SSL_R_…; nil when the error is from another library.
    var reason: Int32? { ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : nil }

    /// OpenSSL's words for it.
    var description: String {
        guard code != 0, let words = unsafe ERR_reason_error_string(code) else { return "no reason given" }
        return unsafe String(cString: words)
    }

    /// Takes all errors out of the queue.
    /// - Returns: the first, which the others follow from.
    static func drain() -> OpenSSLFault {
        let first = OpenSSLFault(code: ERR_get_error())
        ERR_clear_error()
        return first
    }
}
