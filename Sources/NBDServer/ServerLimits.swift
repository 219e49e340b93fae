// SPDX-License-Identifier: Apache-2.0

public import Dispatch

/// What clients may take from the server at most.
public struct ServerLimits: Sendable {
    /// Connections at the same time.
    public var connections = 1024
    /// A client is offered many connections only when it could have so many: as many as programs are told to open at most,
    /// since one that cannot open all of them gives up.
    public var multiConnections = 16
    /// From the accepted connection to the choice of an export.
    public var negotiation: DispatchTimeInterval = .seconds(10)
    /// How long a client that has said good-bye may leave its replies untouched.
    public var goodbye: DispatchTimeInterval = .seconds(30)
    /// How long a client may take to hang up once everything has been said.
    public var farewell: DispatchTimeInterval = .seconds(5)
    /// How long a client that has replies to take may take no byte of them, or one that is sending a payload may send none;
    /// nobody else being in need of what it holds.
    public var stall = Duration.seconds(180)
    /// The same when others have asked for memory in vain since.
    public var stallWhenWanted = Duration.seconds(60)
    /// How often it is looked whether a client stalls.
    public var stallLook = DispatchTimeInterval.seconds(15)
    /// Memory for replies of all connections together, in bytes; by default enough for one request of 16 MiB as a whole,
    /// or for 64 of 256 KiB of several clients. What finds no room is read and sent in pieces.
    public var replyBytes = 17 << 20
    /// The longest read and the longest write that are served, in bytes. Half of the default is advertised: some clients
    /// do not look at that.
    public var requestBytes: UInt32 = 64 << 20
    /// Requests of one connection that workers serve at the same time.
    public var requestsInFlight = 16

    /// The defaults.
    public init() {}
}
