// SPDX-License-Identifier: Apache-2.0

/// What a server said is not what the protocol allows.
public struct WireFault: Error, Equatable, CustomStringConvertible {
    /// What is wrong.
    public let description: String

    /// A sentence.
    public init(_ description: String) { self.description = description }
}
