// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The negotiation with one client, from the first byte to the choice of an export: bytes in, bytes out, no I/O.
///
/// Source: NBD specification, "Handshake phase", fixed newstyle.
struct Handshake {
    /// What the bytes so far have led to.
    enum Outcome {
        /// The client has to say more.
        case incomplete
        /// The transmission phase begins with this export.
        case transmission(Export)
        /// The connection ends; the reason is for the log, nil for an orderly end.
        case close(reason: String?)
    }

    /// The longest option data that is looked at: a name and some dozens of information types.
    static let maximumOptionLength = NBDProtocol.maximumStringLength + 512
    /// The longest option data that is skipped with an error reply; a client that sends more is sent away.
    static let maximumSkippedLength = 64 << 10
    /// How many options a client may send.
    static let maximumOptionCount = 256

    private let exports: ExportTable
    private var clientFlags: NBDProtocol.ClientFlags?
    private var optionCount = 0
    /// Bytes of an overlong option that are still to come.
    private var skipping = 0

    init(exports: ExportTable) { self.exports = exports }

    /// What the server says first.
    static var greeting: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: NBDProtocol.initMagic)
        bytes.append(bigEndian: NBDProtocol.optionMagic)
        bytes.append(bigEndian: NBDProtocol.HandshakeFlags.fixedNewstyle | NBDProtocol.HandshakeFlags.noZeroes)
        return bytes
    }

    /// Takes the next message from the front of `input`, if it is complete.
    ///
    /// - Parameters:
    ///   - input: shortened by what was used. When the outcome is `incomplete` and nothing was used, more is needed.
    ///   - output: replies are appended.
    mutating func receive(_ input: inout ArraySlice<UInt8>, _ output: inout [UInt8]) -> Outcome {
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

    private func handle(
        _ type: UInt32, _ data: ArraySlice<UInt8>, _ flags: NBDProtocol.ClientFlags, _ output: inout [UInt8]
    ) -> Outcome {
        let option = NBDProtocol.Option(rawValue: type)
        if option == .exportName { return exportName(data, flags, &output) }
        guard flags.contains(.fixedNewstyle) else {
            return .close(reason: "sent option \(type) without fixed newstyle negotiation")
        }
        switch option {
        case .abort:
            _ = answer(type, .ack, "", &output)
            return .close(reason: nil)
        case .list:
            guard data.isEmpty else { return answer(type, .invalid, "NBD_OPT_LIST takes no data", &output) }
            for export in exports.exports {
                var entry: [UInt8] = []
                entry.append(bigEndian: UInt32(export.name.utf8.count))
                entry += export.name.utf8
                entry += export.description.utf8
                NBDOptionReply(option: type, type: .server, data: entry).encode(into: &output)
            }
            return answer(type, .ack, "", &output)
        case .info, .go:
            return info(type, data, &output)
        case nil, .exportName:
            return answer(type, .unsupported, "this server does not know option \(type)", &output)
        }
    }

    /// `NBD_OPT_EXPORT_NAME`, which allows no error reply.
    private func exportName(
        _ data: ArraySlice<UInt8>, _ flags: NBDProtocol.ClientFlags, _ output: inout [UInt8]
    ) -> Outcome {
        guard let export = exports.find(String(decoding: data, as: UTF8.self)) else {
            return .close(reason: "asked for an export that does not exist")
        }
        output.append(bigEndian: export.device.size)
        output.append(bigEndian: export.flags)
        if !flags.contains(.noZeroes) { output += [UInt8](repeating: 0, count: 124) }
        return .transmission(export)
    }

    private func info(_ type: UInt32, _ data: ArraySlice<UInt8>, _ output: inout [UInt8]) -> Outcome {
        guard let request = NBDInfoRequest(decoding: data) else {
            return answer(type, .invalid, "the lengths in the option do not fit each other", &output)
        }
        guard let export = exports.find(request.exportName) else {
            return answer(type, .unknownExport, "there is no export of this name; NBD_OPT_LIST shows them", &output)
        }
        func send(_ info: NBDProtocol.Info, _ fill: (inout [UInt8]) -> Void) {
            var data: [UInt8] = []
            data.append(bigEndian: info.rawValue)
            fill(&data)
            NBDOptionReply(option: type, type: .info, data: data).encode(into: &output)
        }
        send(.export) { data in
            data.append(bigEndian: export.device.size)
            data.append(bigEndian: export.flags)
        }
        // Sent unasked, as QEMU does: a client may only know how to use it.
        send(.blockSize) { data in
            data.append(bigEndian: Export.blockSizes.minimum)
            data.append(bigEndian: Export.blockSizes.preferred)
            data.append(bigEndian: Export.blockSizes.maximum)
        }
        if request.infos.contains(.name) { send(.name) { $0 += export.name.utf8 } }
        if request.infos.contains(.description) { send(.description) { $0 += export.description.utf8 } }
        _ = answer(type, .ack, "", &output)
        return type == NBDProtocol.Option.go.rawValue ? .transmission(export) : .incomplete
    }

    private func answer(
        _ option: UInt32, _ type: NBDProtocol.OptionReply, _ text: String, _ output: inout [UInt8]
    ) -> Outcome {
        NBDOptionReply(option: option, type: type, data: Array(text.utf8)).encode(into: &output)
        return .incomplete
    }
}
