// SPDX-License-Identifier: Apache-2.0

/// A run of bytes with the same status in a metadata context.
struct StatusExtent: Equatable, Sendable {
    /// In bytes; more than 0.
    var length: UInt64
    /// As the context defines them.
    var flags: UInt32
}
