// SPDX-License-Identifier: Apache-2.0

extension Connection {
    /// Where the conversation is: an object that holds what is needed there alone.
    enum Phase {
        case negotiating(Negotiating)
        /// TLS comes before anything else.
        case securing(Securing)
        case transmitting(Transmission)
        /// No request is taken any more; replies that are under way still leave: those of the transmission, if it came to one.
        case leaving(Transmission?)
        /// Everything has been said; what the client still sends is thrown away until it hangs up, because closing a
        /// socket with unread bytes would destroy replies on their way.
        case drained

        /// Where requests are served, or the last ones.
        var transmission: Transmission? {
            switch self {
            case .transmitting(let transmission): transmission
            case .leaving(let transmission): transmission
            case .negotiating, .securing, .drained: nil
            }
        }
    }

    /// What became of a message.
    enum Step {
        /// It was handled; the next one may come after this many bytes of payload, which are skipped.
        case handled(payload: Int = 0)
        /// Nothing complete is there.
        case incomplete
        /// Replies must leave first.
        case flushFirst
        /// Workers must finish first.
        case waitForWorkers
        /// A worker must read the next piece of a read first.
        case waitForPiece
    }
}
