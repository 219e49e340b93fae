// SPDX-License-Identifier: Apache-2.0

/// What a client and the server have agreed on: the transmission phase goes by it.
final class Session: Sendable {
    /// A metadata context that the client has chosen.
    struct SelectedContext: Sendable {
        /// In replies to this client.
        let id: UInt32
        let context: MetaContext
    }

    let export: Export
    let mode: ReplyMode
    let contexts: [SelectedContext]
    /// The longest read and the longest payload that is served, in bytes.
    let maximumLength: UInt64

    init(export: Export, mode: ReplyMode, contexts: [SelectedContext], maximumLength: UInt64) {
        self.export = export
        self.mode = mode
        self.contexts = contexts
        self.maximumLength = maximumLength
    }

    /// As the client has been told.
    var flags: NBDProtocol.TransmissionFlags { export.flags(mode) }
}
