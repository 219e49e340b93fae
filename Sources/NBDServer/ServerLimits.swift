// SPDX-License-Identifier: Apache-2.0

public import Dispatch

/// What clients may take from the server at most.
public struct ServerLimits: Sendable {
    /// Connections at the same time.
    public var connections = 1024
    /// From the accepted connection to the choice of an export.
    public var handshake: DispatchTimeInterval = .seconds(10)
    /// How long a client that has said good-bye may leave its replies untouched.
    public var goodbye: DispatchTimeInterval = .seconds(30)
    /// Memory for replies of all connections together, in bytes; by default enough for one request of 16 MiB as a whole,
    /// or for 64 of 256 KiB. What finds no room is read and sent in pieces.
    public var replyBytes = 17 << 20
    /// The longest read and the longest write that are served, in bytes. Half of the default is advertised: some clients
    /// do not look at that.
    public var requestBytes: UInt32 = 64 << 20
    /// Requests of one connection that workers serve at the same time.
    public var requestsInFlight = 16

    /// The defaults.
    public init() {}
}
