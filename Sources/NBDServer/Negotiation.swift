// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The negotiation with one client, from the first byte to the choice of an export: bytes in, bytes out, no I/O.
///
/// Source: NBD specification, "Handshake phase", fixed newstyle.
struct Negotiation {
    /// What the bytes so far have led to.
    enum Outcome {
        /// The client has to say more.
        case incomplete
        /// TLS begins once the output has left; nothing else may follow in the clear.
        case startTLS
        /// The transmission phase begins.
        case transmission(Session)
        /// The connection ends; the reason is for the log, nil for an orderly end.
        case close(reason: Sentence?)
    }

    /// What the server wants of TLS.
    enum TLSDemand {
        case off, allowed, required
    }

    /// The longest option data that is looked at: some names and queries.
    static let maximumOptionLength = 4 * NBDProtocol.maximumStringLength
    /// The longest option data that is skipped with an error reply; a client that sends more is sent away.
    static let maximumSkippedLength = 64 << 10
    /// How many options a client may send.
    static let maximumOptionCount = 256
    /// How many metadata contexts a client may choose.
    static let maximumContextCount = 64
    /// What one call of ``receive(_:_:)`` appends at most, in bytes: entries up to a limit, and one that passes it.
    static let longestOutput = listingLimit + 3 * NBDProtocol.maximumStringLength
    private static let listingLimit = 16 << 10

    /// Replies that are made as the client takes them, before an ACK.
    private struct Listing {
        let option: UInt32
        let type: NBDProtocol.OptionReply
        /// The indices of those that are still to be said.
        var indices: Range<Int>
        let entry: @Sendable (Int) -> [UInt8]
    }

    private let exports: ExportTable
    private let tls: TLSDemand
    private let maximumLength: UInt32
    private let offersMore: @Sendable () -> Bool
    private var isSecure = false
    private var clientFlags: NBDProtocol.ClientFlags?
    private var optionCount = 0
    /// Bytes of an overlong option that are still to come.
    private var skipping = 0
    private var listing: Listing?
    private var mode = ReplyMode.simple
    private var contexts: (export: String, selected: [Session.SelectedContext])?
    /// Are there entries of a list left to be said?
    var isListing: Bool { listing != nil }
    /// The server stops: every option is refused.
    var isStopping = false
    /// What the client has asked for and been answered, a sentence for each option, for the log; nil where nobody wants
    /// to know.
    var notes: [String]?
    /// What the option that is being answered is about.
    private var subject = ""

    /// - Parameters:
    ///   - maximumLength: see ``Session/maximumLength``.
    ///   - offersMore: is there room for more connections of this client? Asked when it chooses an export.
    init(
        exports: ExportTable, tls: TLSDemand, maximumLength: UInt32,
        offersMore: @escaping @Sendable () -> Bool = { true }
    ) {
        self.offersMore = offersMore
        self.exports = exports
        self.tls = tls
        self.maximumLength = maximumLength
    }

    /// The negotiation begins anew, inside TLS: nothing that was agreed on in the clear counts. The client flags stay, as
    /// clients do not send them again; so does the number of options.
    mutating func startOver() {
        isSecure = true
        mode = .simple
        contexts = nil
    }

    /// Are these bytes an `NBD_OPT_ABORT`?
    static func isAbort(_ bytes: ArraySlice<UInt8>) -> Bool {
        guard bytes.count == NBDOptionHeader.encodedLength else { return false }
        return NBDOptionHeader(decoding: bytes)?.type == NBDProtocol.Option.abort.rawValue
    }

    /// What the server says first.
    static var greeting: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: NBDProtocol.initMagic)
        bytes.append(bigEndian: NBDProtocol.optionMagic)
        bytes.append(bigEndian: NBDProtocol.NegotiationFlags.fixedNewstyle | NBDProtocol.NegotiationFlags.noZeroes)
        return bytes
    }

    /// Takes the next message from the front of `input`, if it is complete.
    ///
    /// - Parameters:
    ///   - input: shortened by what was used. When the outcome is `incomplete` and nothing was used or appended, more is
    ///     needed.
    ///   - output: replies are appended, at most ``longestOutput`` bytes.
    mutating func receive(_ input: inout ArraySlice<UInt8>, _ output: inout [UInt8]) -> Outcome {
        if listing != nil { return continueListing(&output) }
        if skipping > 0 {
            let count = min(skipping, input.count)
            input.removeFirst(count)
            skipping -= count
            return .incomplete
        }
        guard let clientFlags else { return receiveClientFlags(&input) }
        guard input.count >= NBDOptionHeader.encodedLength else { return .incomplete }
        guard let header = NBDOptionHeader(decoding: input) else {
            return .close(reason: "sent an option without IHAVEOPT")
        }
        let length = Int(header.length)
        guard length <= Self.maximumSkippedLength else {
            return .close(reason: "sent an option of \(length) bytes")
        }
        guard optionCount < Self.maximumOptionCount else {
            return .close(reason: "sent more than \(Self.maximumOptionCount) options")
        }
        if length > Self.maximumOptionLength {
            guard header.type != NBDProtocol.Option.exportName.rawValue, clientFlags.contains(.fixedNewstyle) else {
                // These allow no error reply.
                return .close(reason: "sent an option of \(length) bytes")
            }
            optionCount += 1
            input.removeFirst(NBDOptionHeader.encodedLength)
            skipping = length
            subject = ""
            if header.type == NBDProtocol.Option.setMetaContext.rawValue { contexts = nil }
            return answer(header.type, .tooBig, "option data is limited to \(Self.maximumOptionLength) bytes", &output)
        }
        guard input.count >= NBDOptionHeader.encodedLength + length else { return .incomplete }
        let data = input.dropFirst(NBDOptionHeader.encodedLength).prefix(length)
        input.removeFirst(NBDOptionHeader.encodedLength + length)
        optionCount += 1
        return handle(header.type, data, clientFlags, &output)
    }

    private mutating func receiveClientFlags(_ input: inout ArraySlice<UInt8>) -> Outcome {
        var reader = ByteReader(input)
        guard let word = reader.integer(UInt32.self) else { return .incomplete }
        input.removeFirst(4)
        let flags = NBDProtocol.ClientFlags(rawValue: word)
        guard flags.isSubset(of: .known) else {
            return .close(reason: "sent unknown client flags 0x\(String(word, radix: 16))")
        }
        clientFlags = flags
        return .incomplete
    }

    private mutating func handle(
        _ type: UInt32, _ data: ArraySlice<UInt8>, _ flags: NBDProtocol.ClientFlags, _ output: inout [UInt8]
    ) -> Outcome {
        subject = ""
        let option = NBDProtocol.Option(rawValue: type)
        if option == .exportName { return exportName(data, flags, &output) }
        guard flags.contains(.fixedNewstyle) else {
            return .close(reason: "sent option \(type) without fixed newstyle negotiation")
        }
        if option == .abort {
            _ = answer(type, .ack, "", &output)
            return .close(reason: nil)
        }
        guard !isStopping else { return answer(type, .shutdown, "the server is being stopped", &output) }
        guard tls != .required || isSecure || option == .startTLS else {
            return answer(type, .tlsRequired, "this server wants TLS first (NBD_OPT_STARTTLS)", &output)
        }
        switch option {
        case .startTLS, .structuredReply, .extendedHeaders, .list:
            guard data.isEmpty else { return answer(type, .invalid, "option \(type) takes no data", &output) }
        default: break
        }
        switch option {
        case .list:
            return list(type)
        case .startTLS:
            return startTLS(type, &output)
        case .info, .go:
            return info(type, data, &output)
        case .structuredReply:
            guard mode != .extended else {
                return answer(type, .extendedHeadersRequired, "extended headers have been agreed on", &output)
            }
            mode = .structured
            return answer(type, .ack, "", &output)
        case .extendedHeaders:
            mode = .extended
            return answer(type, .ack, "", &output)
        case .listMetaContext, .setMetaContext:
            return metaContext(type, data, &output)
        case nil, .exportName, .abort:
            return answer(type, .unsupported, "this server does not know option \(type)", &output)
        }
    }

    private mutating func startTLS(_ type: UInt32, _ output: inout [UInt8]) -> Outcome {
        guard !isSecure else { return answer(type, .invalid, "TLS is in use already", &output) }
        guard tls != .off else {
            return answer(
                type, .policy, "this server has no TLS; its operator can switch it on", &output)
        }
        _ = answer(type, .ack, "", &output)
        return .startTLS
    }

    // MARK: Lists

    private mutating func list(_ type: UInt32) -> Outcome {
        let exports = exports.exports
        return start(type, .server, count: exports.count) { index in
            var entry: [UInt8] = []
            entry.append(bigEndian: UInt32(exports[index].name.utf8.count))
            entry += exports[index].name.utf8
            entry += exports[index].description.utf8
            return entry
        }
    }

    private mutating func metaContext(
        _ type: UInt32, _ data: ArraySlice<UInt8>, _ output: inout [UInt8]
    ) -> Outcome {
        let isChoice = type == NBDProtocol.Option.setMetaContext.rawValue
        // A choice replaces the one before, even when it fails.
        if isChoice { contexts = nil }
        guard mode != .simple else {
            return answer(type, .invalid, "metadata contexts take structured replies first", &output)
        }
        guard let request = NBDMetaContextRequest(decoding: data) else {
            return answer(type, .invalid, "the lengths in the option do not fit each other", &output)
        }
        note(about: request.exportName, request.queries)
        guard let export = exports.find(request.exportName) else {
            return answer(type, .unknownExport, "there is no export of this name; NBD_OPT_LIST shows them", &output)
        }
        guard request.queries.allSatisfy({ $0.utf8.contains(UInt8(ascii: ":")) }) else {
            return answer(type, .invalid, "a query has no namespace, as in base:allocation", &output)
        }
        let queries = Set(request.queries)
        let found = export.contexts.filter { context in
            isChoice ? queries.contains(context.name) : queries.isEmpty || context.isListed(by: queries)
        }
        guard !isChoice || found.count <= Self.maximumContextCount else {
            return answer(type, .tooBig, "at most \(Self.maximumContextCount) contexts can be chosen", &output)
        }
        let selected = found.enumerated().map { index, context in
            Session.SelectedContext(id: isChoice ? UInt32(index + 1) : 0, context: context)
        }
        if isChoice { contexts = (export.name, selected) }
        return start(type, .metaContext, count: selected.count) { index in
            var entry: [UInt8] = []
            entry.append(bigEndian: selected[index].id)
            return entry + selected[index].context.name.utf8
        }
    }

    /// Says entries one after the other, as the client takes them.
    private mutating func start(
        _ option: UInt32, _ type: NBDProtocol.OptionReply, count: Int, _ entry: @escaping @Sendable (Int) -> [UInt8]
    ) -> Outcome {
        listing = Listing(option: option, type: type, indices: 0..<count, entry: entry)
        return .incomplete
    }

    private mutating func continueListing(_ output: inout [UInt8]) -> Outcome {
        guard var listing else { return .incomplete }
        while output.count < Self.listingLimit {
            guard let index = listing.indices.popFirst() else {
                self.listing = nil
                return answer(listing.option, .ack, "", &output)
            }
            NBDOptionReply(option: listing.option, type: listing.type, data: listing.entry(index))
                .encode(into: &output)
        }
        self.listing = listing
        return .incomplete
    }

    // MARK: The choice of an export

    private func session(_ export: Export) -> Session {
        // By bytes, as exports are found.
        let isOfExport = contexts.map { $0.export.utf8.elementsEqual(export.name.utf8) } ?? false
        let chosen = isOfExport ? contexts?.selected ?? [] : []
        return Session(
            export: export, mode: mode, contexts: chosen,
            maximumLength: UInt64(maximumLength))
    }

    /// `NBD_OPT_EXPORT_NAME`, which allows no error reply.
    private mutating func exportName(
        _ data: ArraySlice<UInt8>, _ flags: NBDProtocol.ClientFlags, _ output: inout [UInt8]
    ) -> Outcome {
        guard !isStopping else { return .close(reason: "came while the server is being stopped") }
        guard mode != .extended else {
            return .close(reason: "sent NBD_OPT_EXPORT_NAME after it had agreed on extended headers")
        }
        guard tls != .required || isSecure else { return .close(reason: "asked for an export without TLS") }
        guard data.count <= NBDProtocol.maximumStringLength else {
            return .close(reason: "asked for an export with a name of \(data.count) bytes")
        }
        note(about: String(decoding: data, as: UTF8.self))
        guard let export = exports.find(String(decoding: data, as: UTF8.self)) else {
            return .close(reason: "asked for an export that does not exist")
        }
        notes?.append("NBD_OPT_EXPORT_NAME\(subject): granted")
        output.append(bigEndian: export.device.size)
        output.append(bigEndian: export.flags(mode, offersMore: offersMore()).rawValue)
        if !flags.contains(.noZeroes) { output += [UInt8](repeating: 0, count: 124) }
        return .transmission(session(export))
    }

    private mutating func info(_ type: UInt32, _ data: ArraySlice<UInt8>, _ output: inout [UInt8]) -> Outcome {
        guard let request = NBDInfoRequest(decoding: data) else {
            return answer(type, .invalid, "the lengths in the option do not fit each other", &output)
        }
        note(about: request.exportName)
        guard let export = exports.find(request.exportName) else {
            return answer(type, .unknownExport, "there is no export of this name; NBD_OPT_LIST shows them", &output)
        }
        func send(_ info: NBDProtocol.Info, _ fill: (inout [UInt8]) -> Void) {
            var data: [UInt8] = []
            data.append(bigEndian: info.rawValue)
            fill(&data)
            NBDOptionReply(option: type, type: .info, data: data).encode(into: &output)
        }
        // Sent unasked, as QEMU does: a client may only know how to use it.
        send(.blockSize) { data in
            data.append(bigEndian: export.minimumBlockSize)
            data.append(bigEndian: export.preferredBlockSize)
            let longest = min(Self.advertisedLength, maximumLength)
            data.append(bigEndian: longest - longest % export.minimumBlockSize)
        }
        guard export.minimumBlockSize == 1 || request.infos.contains(.blockSize) else {
            return answer(
                type, .blockSizeRequired,
                "requests must be multiples of \(export.minimumBlockSize) bytes: ask for "
                    + "NBD_INFO_BLOCK_SIZE", &output)
        }
        send(.export) { data in
            data.append(bigEndian: export.device.size)
            data.append(bigEndian: export.flags(mode, offersMore: offersMore()).rawValue)
        }
        if request.infos.contains(.name) { send(.name) { $0 += export.name.utf8 } }
        if request.infos.contains(.description) { send(.description) { $0 += export.description.utf8 } }
        _ = answer(type, .ack, "", &output)
        return type == NBDProtocol.Option.go.rawValue ? .transmission(session(export)) : .incomplete
    }

    /// The maximum block size that clients are told, unless the server serves less.
    static let advertisedLength: UInt32 = 32 << 20

    private mutating func note(about export: String, _ queries: [String] = []) {
        guard notes != nil else { return }
        // As long as one line of a log; a client may send thousands.
        let more = queries.count > 4 ? " and \(queries.count - 4) more" : ""
        subject =
            " of export " + ([export] + queries.prefix(4)).map { ShownText.quoted($0) }.joined(separator: ", ") + more
    }

    private mutating func answer(
        _ option: UInt32, _ type: NBDProtocol.OptionReply, _ text: String, _ output: inout [UInt8]
    ) -> Outcome {
        notes?.append(
            "\(NBDProtocol.Option.name(option))\(subject): \(type.name)\(text.isEmpty ? "" : ", \(text)")")
        NBDOptionReply(option: option, type: type, data: Array(text.utf8)).encode(into: &output)
        return .incomplete
    }
}
