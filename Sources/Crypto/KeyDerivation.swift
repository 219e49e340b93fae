// SPDX-License-Identifier: Apache-2.0

/// How a key is made from a secret, with which cost.
public struct KeyDerivation: Sendable, Equatable {
    /// The function and its cost, as an image states them: not yet checked against ``KeyDerivationLimits``.
    public let function: Function
    /// Random bytes.
    public let salt: [UInt8]

    /// The functions that LUKS knows.
    public enum Function: Sendable, Equatable {
        /// PKCS #5; `hash` is a name of the kernel's crypto API.
        case pbkdf2(hash: String, iterations: UInt32)
        /// RFC 9106, version 1.3, variant i; `memory` in KiB.
        case argon2i(time: UInt32, memory: UInt32, lanes: UInt32)
        /// RFC 9106, version 1.3, variant id; `memory` in KiB.
        case argon2id(time: UInt32, memory: UInt32, lanes: UInt32)
    }

    /// - Parameter salt: as the image has it.
    public init(_ function: Function, salt: [UInt8]) {
        self.function = function
        self.salt = salt
    }
}
