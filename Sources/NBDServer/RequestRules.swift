// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Every rule that a request must satisfy, in one place.
///
/// Source: NBD specification, "Transmission phase", "Request types", "Error values".
enum RequestRules {
    /// What is to be done with a request.
    enum Verdict: Equatable {
        /// It makes sense: its range lies within the export.
        case perform(Operation)
        /// Answer with an error and a sentence, after skipping the payload.
        case refuse(NBDProtocol.ErrorNumber, String)
        /// The client says good-bye.
        case disconnect
        /// Nothing sensible can follow; the reason is for the log.
        case close(reason: Sentence)
    }

    /// What a request asks for.
    enum Operation: Equatable {
        /// Nothing is to be done, successfully.
        case nothing
        case read
        /// The payload is written; on disk before the reply when it is durable.
        case write(isDurable: Bool)
        case flush
        case trim(isDurable: Bool)
        case zero(ZeroOptions, isDurable: Bool)
        case cache
        case blockStatus(isOne: Bool)
        /// The payload says of which bytes, and in which contexts.
        case filteredBlockStatus(isOne: Bool)
    }

    /// Payloads of at most this many bytes are skipped when they are refused; longer ones end the connection.
    private static let longestSkippedPayload: UInt64 = 64 << 20

    /// Judges a request.
    static func judge(_ request: NBDRequest, _ session: Session) -> Verdict {
        let payload = request.payloadLength(session.mode)
        guard payload <= max(session.maximumLength, longestSkippedPayload) else {
            return .close(
                reason: "sent a request with \(payload) bytes of payload; \(remedy: .requestBytes) allows more")
        }
        guard let command = request.command else {
            return .refuse(.invalid, "this server does not know command \(request.type)")
        }
        if command == .disconnect { return .disconnect }
        guard payload <= session.maximumLength else {
            return .refuse(.invalid, "\(payload) bytes of payload are more than the \(session.maximumLength) allowed")
        }
        if command.changesBytes, !session.export.device.isWritable {
            return .refuse(.notPermitted, "the export is read-only")
        }
        let unknown = request.flags.subtracting(flags(of: command, session))
        guard unknown.isEmpty else {
            let bits = String(unknown.rawValue, radix: 16)
            return .refuse(.invalid, "the flags 0x\(bits) of command \(request.type) are not known or were not offered")
        }
        let isDurable = request.flags.contains(.fua)
        switch command {
        case .read:
            return inBounds(request, session, limited: true, .read)
        case .write:
            return changing(request, session, .write(isDurable: isDurable))
        case .trim:
            return changing(request, session, .trim(isDurable: isDurable))
        case .writeZeroes:
            var options: ZeroOptions = []
            if !request.flags.contains(.noHole) { options.insert(.mayDiscard) }
            if request.flags.contains(.fastZero) { options.insert(.fastOnly) }
            return changing(request, session, .zero(options, isDurable: isDurable))
        case .flush:
            guard request.offset == 0, request.length == 0 else {
                return .refuse(.invalid, "offset and length of a flush must be 0")
            }
            return .perform(session.export.device.isWritable ? .flush : .nothing)
        case .cache:
            return inBounds(request, session, .cache)
        case .blockStatus:
            return blockStatus(request, session)
        case .disconnect:
            return .disconnect
        }
    }

    /// The flags that make sense with a command in this session.
    private static func flags(
        of command: NBDProtocol.Command, _ session: Session
    ) -> NBDProtocol.CommandFlags {
        let offered = session.flags
        // "This flag is valid for all commands, provided NBD_FLAG_SEND_FUA has been negotiated."
        var flags: NBDProtocol.CommandFlags = offered.contains(.sendFUA) ? [.fua] : []
        switch command {
        case .read:
            if offered.contains(.sendDF) { flags.insert(.dontFragment) }
        case .write:
            if session.mode == .extended { flags.insert(.payloadLength) }
        case .writeZeroes:
            if offered.contains(.sendWriteZeroes) { flags.insert(.noHole) }
            if offered.contains(.sendFastZero) { flags.insert(.fastZero) }
        case .blockStatus:
            if session.mode != .simple { flags.insert(.requestOne) }
            if offered.contains(.blockStatusPayload) { flags.insert(.payloadLength) }
        case .disconnect, .flush, .trim, .cache: break
        }
        return flags
    }

    private static func changing(_ request: NBDRequest, _ session: Session, _ operation: Operation) -> Verdict {
        // Nothing to discard beyond the end; what is written there has no space.
        let beyond: NBDProtocol.ErrorNumber = if case .trim = operation { .invalid } else { .noSpace }
        return inBounds(request, session, beyond: beyond, operation)
    }

    /// Judges the range of a block status whose payload says how long it is.
    static func judge(_ filter: BlockStatusFilter, of request: NBDRequest, _ session: Session) -> Verdict {
        var effective = request
        effective.length = filter.length
        let isOne = request.flags.contains(.requestOne)
        return statusInBounds(effective, session, .filteredBlockStatus(isOne: isOne))
    }

    private static func statusInBounds(_ request: NBDRequest, _ session: Session, _ operation: Operation) -> Verdict {
        guard request.length > 0 else { return .refuse(.invalid, "the status of 0 bytes was asked for") }
        return inBounds(request, session, operation)
    }

    private static func inBounds(
        _ request: NBDRequest, _ session: Session, limited: Bool = false,
        beyond: NBDProtocol.ErrorNumber = .invalid, _ operation: Operation
    ) -> Verdict {
        let size = session.export.device.size
        guard let range = ByteRange(offset: request.offset, length: request.length), range.fits(size) else {
            return .refuse(
                beyond, "\(request.length) bytes at \(request.offset) reach beyond the export's \(size) bytes")
        }
        let unit = UInt64(session.export.minimumBlockSize)
        guard (request.offset | request.length) & (unit - 1) == 0 else {
            return .refuse(
                .invalid, "\(request.length) bytes at \(request.offset) are not multiples of the block size \(unit)")
        }
        guard !limited || request.length <= session.maximumLength else {
            let isWhole = request.flags.contains(.dontFragment)
            return .refuse(
                isWhole ? .overflow : .invalid,
                "\(request.length) bytes are more than the \(session.maximumLength) that one request may ask for")
        }
        return .perform(request.length == 0 ? .nothing : operation)
    }

    private static func blockStatus(_ request: NBDRequest, _ session: Session) -> Verdict {
        guard !session.contexts.isEmpty else {
            return .refuse(.invalid, "no metadata context was chosen with NBD_OPT_SET_META_CONTEXT")
        }
        let isOne = request.flags.contains(.requestOne)
        if request.flags.contains(.payloadLength) {
            guard BlockStatusFilter.isPossible(length: request.length, session) else {
                return .refuse(.invalid, "\(request.length) bytes of payload are not a list of chosen contexts")
            }
            return .perform(.filteredBlockStatus(isOne: isOne))
        }
        return statusInBounds(request, session, .blockStatus(isOne: isOne))
    }
}
