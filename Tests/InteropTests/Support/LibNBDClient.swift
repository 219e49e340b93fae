// SPDX-License-Identifier: Apache-2.0

import CLibNBD
import Foundation

/// An NBD client on libnbd: a thin cover, and the only place with its pointers. One thread at a time may use it.
@safe
final class LibNBDClient {
    /// What libnbd says went wrong.
    struct Failed: Error, CustomStringConvertible {
        let errorNumber: Int32
        let description: String

        /// The last error of this thread.
        init() {
            errorNumber = nbd_get_errno()
            description = unsafe nbd_get_error().map { unsafe String(cString: $0) } ?? "libnbd: error \(errorNumber)"
        }

        init(_ description: String) {
            errorNumber = ETIMEDOUT
            self.description = description
        }
    }

    /// What the client says to the server before it chooses an export.
    struct HandshakeFlags: OptionSet {
        let rawValue: UInt32
        static let fixedNewstyle = HandshakeFlags(rawValue: 1)
        static let noZeroes = HandshakeFlags(rawValue: 2)
    }

    /// Bytes to read.
    struct Request: Hashable, Sendable {
        let offset: Int
        let count: Int
    }

    @safe
    private struct Pending {
        let request: Request
        let buffer: UnsafeMutableRawPointer
    }

    private let handle: OpaquePointer
    private var pending: [UInt64: Pending] = [:]
    /// No call waits longer.
    private static let patience: Int32 = 30_000

    /// Makes a client that is not connected.
    private init() throws {
        guard let handle = unsafe nbd_create() else { throw Failed() }
        unsafe self.handle = unsafe handle
    }

    deinit {
        unsafe nbd_close(handle)
        for entry in pending.values { unsafe free(entry.buffer) }
    }

    /// Connects and chooses the export that the URI names.
    ///
    /// - Parameters:
    ///   - isLenient: requests that the server should refuse are sent all the same.
    ///   - staysInNegotiation: nothing is chosen: see ``exports()`` and ``choose(_:)``.
    ///   - contexts: metadata contexts to ask for.
    convenience init(
        _ uri: String, flags: HandshakeFlags? = nil, isLenient: Bool = false, staysInNegotiation: Bool = false,
        contexts: [String] = []
    ) throws {
        try self.init()
        for context in contexts { try check(unsafe nbd_add_meta_context(handle, context)) }
        if let flags { try check(unsafe nbd_set_handshake_flags(handle, flags.rawValue)) }
        if isLenient { try check(unsafe nbd_set_strict_mode(handle, 0)) }
        if staysInNegotiation { try check(unsafe nbd_set_opt_mode(handle, true)) }
        try check(unsafe nbd_set_full_info(handle, true))
        // Files of keys and directories of certificates.
        unsafe nbd_set_uri_allow_local_file(handle, true)
        try check(unsafe nbd_aio_connect_uri(handle, uri))
        while unsafe nbd_aio_is_ready(handle) == 0 {
            if staysInNegotiation, unsafe nbd_aio_is_negotiating(handle) == 1 { return }
            try poll()
        }
    }

    private func check(_ result: Int32) throws {
        if result < 0 { throw Failed() }
    }

    private func poll() throws {
        switch unsafe nbd_poll(handle, Self.patience) {
        case 1: return
        case 0: throw Failed("libnbd: the server says nothing for \(Self.patience / 1000) s")
        default: throw Failed()
        }
    }

    // MARK: The export

    /// In bytes.
    var size: Int { unsafe Int(nbd_get_size(handle)) }
    var isReadOnly: Bool { unsafe nbd_is_read_only(handle) == 1 }
    var canFlush: Bool { unsafe nbd_can_flush(handle) == 1 }
    var canMultiConn: Bool { unsafe nbd_can_multi_conn(handle) == 1 }
    var canTrim: Bool { unsafe nbd_can_trim(handle) == 1 }
    var canZero: Bool { unsafe nbd_can_zero(handle) == 1 }
    /// "newstyle" or "newstyle-fixed".
    var protocolName: String? { unsafe nbd_get_protocol(handle).map { unsafe String(cString: $0) } }

    /// Minimum, preferred and maximum block size in bytes; 0 when the server did not say.
    var blockSizes: [Int] {
        [LIBNBD_SIZE_MINIMUM, LIBNBD_SIZE_PREFERRED, LIBNBD_SIZE_MAXIMUM].map {
            unsafe Int(nbd_get_block_size(handle, $0))
        }
    }

    // MARK: Negotiation

    /// The exports that the server lists: names and descriptions.
    func exports() throws -> [String: String] {
        final class Box { var exports: [String: String] = [:] }
        let box = Box()
        let count = unsafe nbd_opt_list(
            handle,
            nbd_list_callback(
                callback: { data, name, description in
                    guard let data = unsafe data, let name = unsafe name, let description = unsafe description else {
                        return 0
                    }
                    let box = unsafe Unmanaged<Box>.fromOpaque(data).takeUnretainedValue()
                    unsafe box.exports[String(cString: name)] = String(cString: description)
                    return 0
                }, user_data: Unmanaged.passUnretained(box).toOpaque(), free: nil))
        try check(count)
        return withExtendedLifetime(box) { box.exports }
    }

    /// Asks about an export without choosing it; ``size`` and the flags are valid then.
    func ask(about name: String) throws {
        try check(unsafe nbd_set_export_name(handle, name))
        try check(unsafe nbd_opt_info(handle))
    }

    /// Chooses an export.
    func choose(_ name: String) throws {
        try check(unsafe nbd_set_export_name(handle, name))
        try check(unsafe nbd_opt_go(handle))
    }

    // MARK: Requests

    /// Reads `count` bytes at `offset`.
    func read(_ count: Int, at offset: Int) throws -> Data {
        try send(Request(offset: offset, count: count))
        while true {
            if let (_, data) = try takeCompleted() { return data }
            try poll()
        }
    }

    /// Writes, which the server refuses.
    func write(_ bytes: [UInt8], at offset: Int) throws {
        try check(
            unsafe bytes.withUnsafeBytes { unsafe nbd_pwrite(handle, $0.baseAddress, $0.count, UInt64(offset), 0) })
    }

    func flush() throws { try check(unsafe nbd_flush(handle, 0)) }

    /// What the server says of a context.
    struct Status: Equatable {
        let offset: Int
        let length: Int
        let flags: UInt32
    }

    /// Asks for the status of bytes until all of it is known; libnbd checks that the answers make sense.
    func blockStatus(_ context: String, _ range: Range<Int>) throws -> [Status] {
        final class Box {
            let context: String
            var extents: [Status] = []
            init(_ context: String) { self.context = context }
        }
        let box = Box(context)
        var position = range.lowerBound
        while position < range.upperBound {
            let known = box.extents.count
            let callback = unsafe nbd_extent_callback(
                callback: { data, name, offset, entries, count, _ in
                    guard let data = unsafe data, let name = unsafe name, let entries = unsafe entries else { return 0 }
                    let box = unsafe Unmanaged<Box>.fromOpaque(data).takeUnretainedValue()
                    guard unsafe String(cString: name) == box.context else { return 0 }
                    var place = Int(offset)
                    for index in stride(from: 0, to: count, by: 2) {
                        let (length, flags) = unsafe (Int(entries[index]), entries[index + 1])
                        box.extents.append(Status(offset: place, length: length, flags: flags))
                        place += length
                    }
                    return 0
                }, user_data: Unmanaged.passUnretained(box).toOpaque(), free: nil)
            let count = min(range.upperBound - position, 1 << 30)
            try check(unsafe nbd_block_status(handle, UInt64(count), UInt64(position), callback, 0))
            guard let last = box.extents.last, box.extents.count > known, last.offset + last.length > position else {
                throw Failed("libnbd: no status of byte \(position)")
            }
            position = last.offset + last.length
        }
        return withExtendedLifetime(box) { box.extents }
    }

    /// Sends a request without waiting for the reply.
    private func send(_ request: Request) throws {
        guard let buffer = unsafe malloc(max(1, request.count)) else { throw Failed("no memory") }
        let cookie = unsafe nbd_aio_pread(
            handle, buffer, request.count, UInt64(request.offset), nbd_completion_callback(), 0)
        guard cookie >= 0 else {
            unsafe free(buffer)
            throw Failed()
        }
        pending[UInt64(cookie)] = unsafe Pending(request: request, buffer: buffer)
    }

    /// A reply that has arrived.
    private func takeCompleted() throws -> (Request, Data)? {
        for (cookie, entry) in pending {
            let state = unsafe nbd_aio_command_completed(handle, cookie)
            if state == 0 { continue }
            pending[cookie] = nil
            guard state > 0 else {
                unsafe free(entry.buffer)
                throw Failed()
            }
            return unsafe (
                entry.request, Data(bytesNoCopy: entry.buffer, count: entry.request.count, deallocator: .free)
            )
        }
        return nil
    }

    /// Reads over several connections at once, with several requests in flight on each.
    ///
    /// - Parameter body: called for each reply, in the order of arrival.
    static func read(
        _ requests: [[Request]], over clients: [LibNBDClient], inFlight: Int, _ body: (Request, Data) throws -> Void
    ) throws {
        var rest = requests.map { $0.reversed() as [Request] }
        while true {
            for (index, client) in clients.enumerated() {
                while let (request, data) = try client.takeCompleted() { try body(request, data) }
                while client.pending.count < inFlight, let next = rest[index].popLast() { try client.send(next) }
            }
            let busy = clients.filter { !$0.pending.isEmpty }
            if busy.isEmpty { return }
            var waits = busy.map { client in
                let direction = unsafe nbd_aio_get_direction(client.handle)
                return pollfd(
                    fd: unsafe nbd_aio_get_fd(client.handle),
                    events: Int16((direction & 1 != 0 ? POLLIN : 0) | (direction & 2 != 0 ? POLLOUT : 0)), revents: 0)
            }
            guard unsafe Glibc.poll(&waits, nfds_t(waits.count), patience) > 0 else {
                throw Failed("libnbd: no reply for \(patience / 1000) s")
            }
            for (client, wait) in zip(busy, waits) {
                if wait.revents & Int16(POLLIN | POLLHUP | POLLERR) != 0 {
                    try client.check(unsafe nbd_aio_notify_read(client.handle))
                } else if wait.revents & Int16(POLLOUT) != 0 {
                    try client.check(unsafe nbd_aio_notify_write(client.handle))
                }
            }
        }
    }
}
