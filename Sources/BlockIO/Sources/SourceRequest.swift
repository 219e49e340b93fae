// SPDX-License-Identifier: Apache-2.0

/// One request to an ``AsyncSource``, with the memory that it is about.
///
/// It is what a C library carries as its context: it owns the memory, and whoever holds it can answer.
public final class SourceRequest: Sendable {
    /// What is wanted.
    public let operation: SourceOperation
    /// Of a read or a write; has no bytes otherwise.
    public let memory: RequestMemory
    /// Which bytes of ``memory`` are those of the operation: as many as it is about.
    public let place: Range<Int>
    /// Nil once it has been called.
    private let answer: Locked<(@Sendable (Result<SourceAnswer, BlockError>) -> Void)?>

    init(
        _ operation: SourceOperation, memory: RequestMemory, place: Range<Int>,
        answer: @escaping @Sendable (Result<SourceAnswer, BlockError>) -> Void
    ) {
        self.operation = operation
        self.memory = memory
        self.place = place
        self.answer = Locked(answer)
    }

    /// Tells that the request has been carried out. The source does not touch the memory any more.
    ///
    /// Any thread, once: what comes later is ignored.
    public func complete(_ answer: SourceAnswer = SourceAnswer()) { end(.success(answer)) }

    /// Tells that the request has failed, and will have no effect any more; as ``complete(_:)`` otherwise.
    public func fail(_ error: BlockError) { end(.failure(error)) }

    private func end(_ result: Result<SourceAnswer, BlockError>) {
        let answer = answer.withLock { answer in
            let taken = answer
            answer = nil
            return taken
        }
        answer?(result)
    }
}

/// What a source says of a request that it has carried out.
public struct SourceAnswer: Sendable {
    /// How many bytes of a read or a write are done, more than 0; nil: all of them. The rest is asked for anew.
    public let byteCount: Int?
    /// Which source this is, where the answer tells: a read whose ETag is another must not be taken for one of this source.
    public let identity: SourceIdentity?
    /// For ``SourceOperation/extents(_:)``: in order, the first one where the request begins.
    public let extents: [Extent]

    /// All done, where nothing else is said.
    public init(byteCount: Int? = nil, identity: SourceIdentity? = nil, extents: [Extent] = []) {
        self.byteCount = byteCount
        self.identity = identity
        self.extents = extents
    }
}
