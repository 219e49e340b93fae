// SPDX-License-Identifier: Apache-2.0

/// A byte of the guest disk.
struct GuestOffset: Equatable, Sendable {
    let bytes: UInt64

    init(_ bytes: UInt64) { self.bytes = bytes }
}

/// A byte of the image file.
struct HostOffset: Hashable, Sendable {
    let bytes: UInt64

    init(_ bytes: UInt64) { self.bytes = bytes }
}
