// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Puts the replies to one request into buffers, in the form that the client has chosen. Any thread may use it.
struct Reply {
    let mode: ReplyMode
    let request: NBDRequest

    /// Bytes that any reply without data fits in.
    static let longestWithoutData = 512
    /// What sentences for clients are cut to, in bytes.
    private static let longestSentence = 400
    /// The smallest run of zeros that is sent as a hole, in bytes; runs of other data start and end at its multiples.
    private static let holeUnit = 4096

    private func head(
        _ type: NBDProtocol.ChunkType, isDone: Bool, payload: Int = 0, error: NBDProtocol.ErrorNumber = .none
    ) -> NBDReplyHead {
        NBDReplyHead(
            mode: mode, cookie: request.cookie, offset: request.offset, error: error, type: type, isDone: isDone,
            payloadLength: UInt64(payload))
    }

    /// Says that the request has been carried out, where no data is asked for.
    func succeed(in buffer: PayloadBuffer) {
        buffer.append(mode.headLength) { head(.none, isDone: true).encode(into: &$0) }
    }

    /// Says that the request has failed.
    ///
    /// - Parameters:
    ///   - sentence: for people; simple replies cannot carry it.
    ///   - offset: the first byte that is concerned; within the request.
    func fail(
        _ error: NBDProtocol.ErrorNumber, _ sentence: String, at offset: UInt64? = nil, in buffer: PayloadBuffer
    ) {
        guard mode != .simple else {
            return buffer.append(mode.headLength) { head(.none, isDone: true, error: error).encode(into: &$0) }
        }
        let text = Self.shortened(sentence)
        var payload: [UInt8] = []
        payload.append(bigEndian: error.rawValue)
        payload.append(bigEndian: UInt16(text.count))
        payload += text
        if let offset { payload.append(bigEndian: offset) }
        let chunk = head(offset == nil ? .error : .errorOffset, isDone: true, payload: payload.count)
        buffer.append(mode.headLength) { chunk.encode(into: &$0) }
        buffer.append(payload[...])
    }

    /// Says why the request has failed.
    /// - Parameter offset: see ``fail(_:_:at:in:)``.
    func fail(_ error: BlockError, at offset: UInt64?, in buffer: PayloadBuffer) {
        let number: NBDProtocol.ErrorNumber =
            switch error.code {
            case .outOfRange: .invalid
            case .readOnly: .notPermitted
            case .noSpace: .noSpace
            case .notSupported: .notSupported
            // ESHUTDOWN would say that this server goes away.
            case .inputOutput, .damaged, .wouldBlock, .timedOut, .disconnected, .changed: .inputOutput
            }
        fail(number, error.description, at: offset, in: buffer)
    }

    /// A sentence in at most so many bytes, whole characters.
    private static func shortened(_ sentence: String) -> [UInt8] {
        var sentence = sentence
        while sentence.utf8.count > longestSentence { sentence.unicodeScalars.removeLast() }
        return Array(sentence.utf8)
    }

    // MARK: Data

    /// May the data come in several chunks?
    var isFragmented: Bool { mode != .simple && !request.flags.contains(.dontFragment) }

    /// How many bytes a reply with `count` bytes of data takes at most.
    func length(ofData count: Int) -> Int { mode.headLength + (mode == .simple ? 0 : 8) + count }

    /// How many bytes come before the data of a part, for a head, where one belongs: in one chunk there is one for all parts.
    func headLength(of part: Range<Int>) -> Int { !isFragmented && part.lowerBound > 0 ? 0 : length(ofData: 0) }

    /// Makes a reply, or the part of one, of a part of the data, in place: it lies behind the room for ``headLength(of:)``.
    ///
    /// Where the client takes chunks and has not forbidden it, runs of zeros become holes. Otherwise, where it takes chunks
    /// and `part` is not all of the data, a chunk must follow the last part: success, or why a part is not what it should be.
    /// - Parameter part: which bytes of the request's.
    /// - Returns: how many bytes there are now; not more than before.
    func frame(_ bytes: inout MutableRawSpan, _ part: Range<Int>) -> Int {
        let isLast = part.upperBound == Int(request.length)
        guard !isFragmented else { return carve(&bytes, part, isLast: isLast) }
        // One head for all parts, before the first of them; while more of them may fail it is not the last.
        if part.lowerBound == 0 { encodeDataHead(&bytes, at: 0, 0..<Int(request.length), isDone: isLast) }
        return bytes.byteCount
    }

    private func encodeDataHead(_ bytes: inout MutableRawSpan, at position: Int, _ part: Range<Int>, isDone: Bool) {
        head(.offsetData, isDone: isDone, payload: 8 + part.count).encode(into: &bytes, at: position)
        if mode != .simple { bytes.store(request.offset + UInt64(part.lowerBound), at: position + mode.headLength) }
    }

    /// Makes chunks of data that lies behind the room for one head: data and holes.
    ///
    /// Works from the front in place: what a hole saves is more than the heads that it costs.
    /// - Returns: the length of all chunks in bytes.
    private func carve(_ bytes: inout MutableRawSpan, _ part: Range<Int>, isLast: Bool) -> Int {
        let dataHead = length(ofData: 0)
        var runs = ZeroRuns(
            count: part.count, firstBoundary: firstBoundary(part.lowerBound), unit: Self.holeUnit)
        var written = 0
        while let run = runs.next(in: bytes, from: dataHead) {
            let isDone = isLast && run.range.upperBound == part.count
            let range = (part.lowerBound + run.range.lowerBound)..<(part.lowerBound + run.range.upperBound)
            if run.isZero {
                head(.offsetHole, isDone: isDone, payload: 12).encode(into: &bytes, at: written)
                bytes.store(request.offset + UInt64(range.lowerBound), at: written + mode.headLength)
                bytes.store(UInt32(range.count), at: written + mode.headLength + 8)
                written += mode.headLength + 12
            } else {
                bytes.move(dataHead + run.range.lowerBound, to: written + dataHead, count: range.count)
                encodeDataHead(&bytes, at: written, range, isDone: isDone)
                written += dataHead + range.count
            }
        }
        return written
    }

    /// How many bytes of the part come before a multiple of the hole's unit.
    private func firstBoundary(_ start: Int) -> Int {
        let unit = UInt64(Self.holeUnit)
        return Int((unit - (request.offset + UInt64(start)) % unit) % unit)
    }

    // MARK: Block status

    /// Puts the extents of a context into `buffer`, which has room for them.
    func blockStatus(_ id: UInt32, _ extents: [StatusExtent], isDone: Bool, in buffer: PayloadBuffer) {
        var payload: [UInt8] = []
        payload.append(bigEndian: id)
        if mode == .extended { payload.append(bigEndian: UInt32(extents.count)) }
        for extent in extents {
            if mode == .extended {
                payload.append(bigEndian: extent.length)
                payload.append(bigEndian: UInt64(extent.flags))
            } else {
                payload.append(bigEndian: UInt32(truncatingIfNeeded: extent.length))
                payload.append(bigEndian: extent.flags)
            }
        }
        let type = mode == .extended ? NBDProtocol.ChunkType.blockStatusExtended : .blockStatus
        let chunk = head(type, isDone: isDone, payload: payload.count)
        buffer.append(mode.headLength) { chunk.encode(into: &$0) }
        buffer.append(payload[...])
    }
}
