// SPDX-License-Identifier: Apache-2.0

/// How large the buffers of replies and payloads are, and from which length on requests are served in which way, in bytes.
///
/// All are multiples of one number, so that a test serves reads in pieces, and on workers, with little data.
struct PayloadSizes: Sendable {
    /// The payload that the smallest buffer holds.
    let smallest: Int
    /// Room for the heads of replies beside the payload; what the negotiation says at once has room in the smallest buffer.
    let headRoom: Int

    /// - Parameter smallest: a power of two.
    init(smallest: Int = 64 << 10) {
        self.smallest = smallest
        headRoom = max(4096, Negotiation.longestOutput - smallest)
    }

    /// The whole of the smallest buffer.
    var smallestCapacity: Int { smallest + headRoom }
    /// From so many on replies leave before more are added: the client has something to do meanwhile.
    var enough: Int { smallest }
    /// Reads of so many are worth the change of threads, if the client waits for more and a processor is idle.
    var worthSharing: Int { smallest }
    /// The buffer that replies of one event are gathered in.
    var batch: Int { smallest * 4 }
    /// The piece of a read or a write that has no buffer of its own size, if there is room for that.
    var largestPiece: Int { smallest * 16 }
    /// Reads of more than this go to a worker at once: they would hold up the other clients of the loop.
    var inlineLimit: Int { smallest * 16 }
}
