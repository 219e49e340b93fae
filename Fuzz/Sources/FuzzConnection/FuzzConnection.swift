// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Glibc
import Logging
import NBDServer
import SystemPackage
import TestSupport

private let contents = (0..<400_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

private func makeServer() -> Server {
    let export = Export(name: "", description: "", device: MemoryDevice(contents, isWritable: true))
    var limits = ServerLimits()
    // Little, so that some reads and writes have to be served in pieces.
    limits.replyBytes = 1 << 20
    do {
        return try Server(
            exports: ExportTable([export]), limits: limits, processorCount: 2,
            log: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() })
    } catch { fatalError("no event loop: \(error)") }
}

private let server = makeServer()
/// Nobody changes what is on its disk.
private let checkedServer = makeServer()

/// What a client says to a real connection. An even first byte: any bytes. An odd one: a list of well-formed requests in one
/// of the reply modes, whose replies are compared with what they must be.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzConnection(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = bytes.first else { return 0 }
    if first % 2 == 0 {
        let output = converse(Array(bytes.dropFirst()), with: server)
        precondition(output.starts(with: Array("NBDMAGICIHAVEOPT".utf8)))
    } else {
        do {
            try checkRequests(bytes.dropFirst(), WireMode.allCases[Int(first >> 1) % 3])
        } catch {
            fatalError(error.description)
        }
    }
    return 0
}

/// Sixteen bytes make a request. Writes write what is there: each read has one right answer, in whatever order they come.
private func requests(_ bytes: ArraySlice<UInt8>, _ mode: WireMode) -> [WireRequest] {
    var reader = ByteReader(bytes)
    var requests: [WireRequest] = []
    while requests.count < 64, let type = reader.integer(UInt8.self), let flags = reader.integer(UInt8.self),
        let offset = reader.integer(UInt64.self), let length = reader.integer(UInt32.self), reader.take(2) != nil
    {
        // Most requests are within the disk.
        let start = flags & 0x80 == 0 ? offset % UInt64(contents.count) : offset
        let rest = start < UInt64(contents.count) ? UInt64(contents.count) - start : 0
        let count = flags & 0x80 == 0 ? UInt64(length) % (rest + 1) : UInt64(length % 500_000)
        let cookie = UInt64(requests.count)
        switch type % 8 {
        case 1:
            let range =
                Int(min(start, UInt64(contents.count)))..<Int(min(start, UInt64(contents.count)) + min(count, rest))
            requests.append(.write(Array(contents[range]), at: start, flags: UInt16(flags & 1), cookie: cookie, mode))
        // These would change the disk: of no bytes only.
        case 4, 6:
            requests.append(
                WireRequest(type: UInt16(type % 8), flags: UInt16(flags & 1), cookie: cookie, offset: start))
        case 2: continue
        case let type:
            let isRead = type == 0
            requests.append(
                WireRequest(
                    type: UInt16(type), flags: UInt16(flags & (isRead ? 5 : 1)), cookie: cookie, offset: start,
                    length: type == 3 ? 0 : count))
        }
    }
    return requests
}

private func checkRequests(_ bytes: ArraySlice<UInt8>, _ mode: WireMode) throws(WireFault) {
    let conversation = WireConversation(
        mode, contexts: ["base:allocation", "qemu:allocation-depth"], requests(bytes, mode))
    let output = converse(conversation.bytes, with: checkedServer)
    var checker = conversation.checker
    for reply in try checker.takeAll(try conversation.replies(in: output)) { check(reply, mode) }
    precondition(checker.openCount == 0, "requests without a reply")
}

/// The right error, or the right data.
private func check(_ reply: WireReply, _ mode: WireMode) {
    let request = reply.request
    let end = request.offset.addingReportingOverflow(request.length)
    let fits = !end.overflow && end.partialValue <= UInt64(contents.count)
    let isStatusless = request.command == .blockStatus && (mode == .simple || request.length == 0)
    let isDF = request.flags & 4 != 0 && mode == .simple
    let isFlush = request.command == .flush
    let isRight = (isFlush ? request.offset == 0 : fits) && !isStatusless && !isDF
    precondition((reply.error == 0) == isRight, "error \(reply.error)")
    guard reply.error == 0, request.command == .read else { return }
    precondition(reply.hasData(of: contents), "wrong data")
}

/// Sends all bytes, hangs up, and returns everything that the server said.
private func converse(_ message: [UInt8], with server: Server) -> [UInt8] {
    var pair: [Int32] = [-1, -1]
    guard unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0 else {
        fatalError("no socket")
    }
    defer { close(pair[0]) }
    for descriptor in pair { _ = fcntl(descriptor, F_SETFL, O_NONBLOCK) }
    server.admit(FileDescriptor(rawValue: pair[1]))
    var unsent = message[...]
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
        var event = pollfd(fd: pair[0], events: Int16(POLLIN) | (unsent.isEmpty ? 0 : Int16(POLLOUT)), revents: 0)
        let count = unsafe poll(&event, 1, 30_000)
        // libFuzzer's own timer interrupts.
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { fatalError("the server hangs") }
        if event.revents & Int16(POLLOUT) != 0, !unsent.isEmpty {
            let count = unsafe unsent.withUnsafeBytes { bytes in
                unsafe send(pair[0], bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
            }
            unsent = count > 0 ? unsent.dropFirst(count) : []
            if unsent.isEmpty { shutdown(pair[0], Int32(SHUT_WR)) }
        }
        if event.revents & Int16(POLLIN | POLLHUP | POLLERR) != 0 {
            let count = unsafe recv(pair[0], &buffer, buffer.count, 0)
            if count > 0 { output += buffer[..<count] } else if count == 0 || errno != EAGAIN { return output }
        }
        if message.isEmpty { shutdown(pair[0], Int32(SHUT_WR)) }
    }
}
