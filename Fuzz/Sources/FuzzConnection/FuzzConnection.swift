// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Glibc
import Logging
import NBDServer
import SystemPackage
import TestSupport

private let contents = (0..<400_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

private let server: Server = {
    let export = Export(name: "", description: "", device: MemoryDevice(contents))
    var limits = ServerLimits()
    // Little, so that some reads have to be served in pieces.
    limits.replyBytes = 1 << 20
    return Server(
        exports: ExportTable([export]), limits: limits, processorCount: 2,
        log: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() })
}()

/// What a client says to a real connection. An even first byte: any bytes. An odd one: a list of well-formed requests,
/// whose replies are compared with what they must be.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzConnection(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = bytes.first else { return 0 }
    if first % 2 == 0 {
        let output = converse(Array(bytes.dropFirst()))
        precondition(output.starts(with: Array("NBDMAGICIHAVEOPT".utf8)))
    } else {
        checkRequests(bytes.dropFirst())
    }
    return 0
}

private struct Request {
    let type: UInt16
    let flags: UInt16
    let offset: UInt64
    let length: UInt32
}

/// Sixteen bytes make a request.
private func checkRequests(_ bytes: ArraySlice<UInt8>) {
    var reader = ByteReader(bytes)
    var requests: [Request] = []
    var message: [UInt8] = [0, 0, 0, 3] + Array("IHAVEOPT".utf8) + [0, 0, 0, 1, 0, 0, 0, 0]
    while requests.count < 64, let type = reader.integer(UInt8.self), let flags = reader.integer(UInt8.self),
        let offset = reader.integer(UInt64.self), let length = reader.integer(UInt32.self), reader.take(2) != nil
    {
        // Most requests are reads within the disk, and no payload is long.
        let isRead = type % 8 == 0
        let request = Request(
            type: isRead ? 0 : UInt16(type % 8), flags: UInt16(flags & 1),
            offset: flags & 2 == 0 ? offset % UInt64(contents.count) : offset,
            length: isRead ? length % 500_000 : length % 2000)
        guard request.type != 2 else { continue }
        message.append(bigEndian: UInt32(0x2560_9513))
        message.append(bigEndian: request.flags)
        message.append(bigEndian: request.type)
        message.append(bigEndian: UInt64(requests.count))
        message.append(bigEndian: request.offset)
        message.append(bigEndian: request.length)
        if request.type == 1 { message += [UInt8](repeating: 0x25, count: Int(request.length)) }
        requests.append(request)
    }
    message.append(bigEndian: UInt32(0x2560_9513))
    message += [0, 0, 0, 2] + [UInt8](repeating: 0xFF, count: 20)
    let output = converse(message)
    check(output.dropFirst(18 + 10), requests)
}

/// One reply to each request, with the right error or the right data.
private func check(_ output: ArraySlice<UInt8>, _ requests: [Request]) {
    var reader = ByteReader(output)
    var open = Set(requests.indices)
    while reader.remaining > 0 {
        guard reader.integer(UInt32.self) == 0x6744_6698, let error = reader.integer(UInt32.self),
            let cookie = reader.integer(UInt64.self), let index = open.remove(Int(cookie))
        else { preconditionFailure("a reply that nobody asked for") }
        let request = requests[index]
        let end = request.offset.addingReportingOverflow(UInt64(request.length))
        let fits = !end.overflow && end.partialValue <= UInt64(contents.count)
        switch request.type {
        case 0 where request.flags == 0 && fits:
            precondition(error == 0)
            let start = Int(request.offset)
            guard let data = reader.take(Int(request.length)), data == contents[start..<(start + data.count)] else {
                preconditionFailure("wrong data")
            }
        case 1: precondition(error == 1)
        case 3 where request.flags == 0 && request.offset == 0 && request.length == 0: precondition(error == 0)
        default: precondition(error != 0)
        }
    }
    precondition(open.isEmpty, "requests without a reply")
}

/// Sends all bytes, hangs up, and returns everything that the server said.
private func converse(_ message: [UInt8]) -> [UInt8] {
    var pair: [Int32] = [-1, -1]
    guard unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0 else {
        preconditionFailure("no socket")
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
        guard count > 0 else { preconditionFailure("the server hangs") }
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
