// SPDX-License-Identifier: Apache-2.0

/// A client's bytes, in and out, that never waits: its socket, or TLS over it.
///
/// One caller at a time, but for a thread that sends while another one receives where ``isTwoWay`` says so.
protocol ByteStream: Sendable {
    /// May one thread send while another one receives?
    var isTwoWay: Bool { get }
    /// Are received bytes held back inside, of which the socket will not tell again?
    var hasPending: Bool { get }
    /// Receives into the start of `buffer`.
    func receive(into buffer: inout MutableRawSpan) -> Socket.Progress
    /// Sends from the start of `bytes`, as many as it takes now.
    func send(_ bytes: RawSpan) -> Socket.Progress
    /// Tells the other side that nothing more will come; it can still be heard.
    func endSending()
}

extension Socket: ByteStream {
    /// A socket tells of all that can be received.
    var hasPending: Bool { false }
    var isTwoWay: Bool { true }
}

extension TLSSession: ByteStream {}
