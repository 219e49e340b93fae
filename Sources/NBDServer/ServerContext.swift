// SPDX-License-Identifier: Apache-2.0

import Logging

/// What all connections of a server share.
struct ServerContext: Sendable {
    let exports: ExportTable
    let limits: ServerLimits
    let buffers: PayloadBufferPool
    /// For requests to exports that have no lane of their own.
    let files: any Workers
    let processors: SpareProcessors
    let tls: TLSPolicy
    /// For TLS handshakes, which take long enough to hold up the clients of a loop.
    let handshakes: any Workers
    let log: ClientLog
    /// May the client with this number be told that it can have more connections?
    let offersMore: @Sendable (UInt64) -> Bool
    /// Told of what a connection does; called on the connection's loop.
    let observe: @Sendable (Connection.Event) -> Void
}
