// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import CTLS
import Glibc

/// The TLS of one client, over its socket.
///
/// One thread at a time: ``handshake()`` on a worker, everything else on the queue of the connection's loop. After a
/// handshake that has failed, and after a fault, ``endSending()`` and ``receive(into:)`` still work, to let the alert
/// arrive: the latter then throws away what the client sends and tells when it has gone.
@safe
final class TLSSession: @unchecked Sendable {
    /// How far a handshake is.
    enum Handshake: Equatable {
        case done
        /// Again, when the socket can be read.
        case wantsRead
        /// Again, when the socket can be written.
        case wantsWrite
        /// Over; a sentence for the log, without a full stop.
        case failed(reason: Sentence)
    }

    /// The most bytes in a record.
    private static let recordSize = 16 << 10
    /// As often as this a client may send something else than data before there are data or a pause.
    private static let maximumIdleReads = 8

    let context: TLSContext
    let socket: Socket
    /// Set by the transport when the socket had nothing to read.
    var socketIsEmpty = false
    private var connection: OpaquePointer?
    private var isBroken = false
    private var isEstablished = false
    /// The end, or a fault, has been met behind data that were received: the socket will not tell of it again.
    private var hasEnded = false
    private var refusal: Sentence?
    private var claimedIdentity: (name: String, isKnown: Bool)?
    private var bytesLeftForKey: Int
    private let keyUpdateInterval: Int

    /// - Parameters:
    ///   - socket: stays with its owner, who closes it.
    ///   - keyUpdateInterval: bytes after which a new key is used for sending (TLS 1.3): AES-GCM is not to encrypt more
    ///     than some 400 GB with one (RFC 8446 §5.5).
    /// - Throws: ``TLSError`` when there is no memory.
    init(_ context: TLSContext, socket: Socket, keyUpdateInterval: Int = 64 << 30) throws(TLSError) {
        self.context = context
        self.socket = socket
        self.keyUpdateInterval = keyUpdateInterval
        self.bytesLeftForKey = keyUpdateInterval
        unsafe self.connection = nil
        unsafe self.connection = unsafe context.makeConnection(for: self)
        guard unsafe self.connection != nil else {
            throw TLSError("no memory for a TLS connection: \(OpenSSLFault.drain().description)")
        }
    }

    deinit { unsafe SSL_free(connection) }

    // MARK: - Handshake

    /// Continues the handshake. Computes for milliseconds; never waits.
    func handshake() -> Handshake {
        guard !isBroken else { return .failed(reason: "the TLS handshake has failed before") }
        ERR_clear_error()
        let result = unsafe SSL_accept(connection)
        if result == 1 {
            unsafe tls_forget_session_key(connection)
            isEstablished = true
            return .done
        }
        let error = unsafe SSL_get_error(connection, result)
        let fault = OpenSSLFault.drain()
        switch error {
        case SSL_ERROR_WANT_READ: return .wantsRead
        case SSL_ERROR_WANT_WRITE: return .wantsWrite
        default:
            isBroken = true
            return .failed(reason: reason(error, fault))
        }
    }

    private func reason(_ error: Int32, _ fault: OpenSSLFault) -> Sentence {
        if let refusal { return refusal }
        if error != SSL_ERROR_SSL { return "the client hung up during the TLS handshake" }
        if let claimedIdentity, fault.isWrongKey {
            return claimedIdentity.isKnown
                ? "the client has another key for the user \(claimedIdentity.name) than \(keyFile)"
                : "the client uses the pre-shared key of \(claimedIdentity.name), whom \(keyFile) does not name"
        }
        return fault.handshakeReason
    }

    private var keyFile: String { context.preSharedKeys?.path ?? "the server" }

    /// The verification of the client's certificate has failed; a sentence for the log.
    func refuse(certificate reason: Sentence) { refusal = reason }

    /// The client says whose pre-shared key it has; it has proved nothing yet.
    func clientClaims(identity: [UInt8], isKnown: Bool) {
        claimedIdentity = (ShownText.quoted(String(decoding: identity, as: UTF8.self)), isKnown)
    }

    /// Who the client is, for the log: the name in its certificate or that of its pre-shared key; nil before the end
    /// of the handshake, and when it did not have to tell.
    var peerName: String? {
        guard isEstablished else { return nil }
        if let claimedIdentity { return claimedIdentity.name }
        guard let certificate = unsafe SSL_get0_peer_certificate(connection) else { return nil }
        return unsafe DistinguishedName(subjectOf: certificate)?.description
    }

    /// Version and cipher suite, for the log; nil before the end of the handshake.
    var parameters: String? {
        guard isEstablished, let version = unsafe SSL_get_version(connection),
            let suite = unsafe SSL_CIPHER_get_name(SSL_get_current_cipher(connection))
        else { return nil }
        return unsafe "\(String(cString: version)) \(String(cString: suite))"
    }

    // MARK: - Data

    /// OpenSSL has one state for both.
    var isTwoWay: Bool { false }

    /// Whether decrypted or undecrypted bytes, or the end, are inside, which no event of the socket will tell of.
    var hasPending: Bool {
        unsafe hasEnded || !isBroken && !socketIsEmpty && SSL_has_pending(connection) == 1
    }

    /// Receives into the start of `buffer`, which has room for at least one byte.
    ///
    /// - Returns: `.closed` also when the connection was cut off without a goodbye, or broke the protocol.
    func receive(into buffer: inout MutableRawSpan) -> Socket.Progress {
        guard !hasEnded else { return .closed }
        guard !isBroken else { return discard(&buffer) }
        var received = 0
        var idleReads = 0
        while received < buffer.byteCount {
            socketIsEmpty = false
            let result = read(&buffer, at: received)
            if result.count > 0 {
                received += result.count
                idleReads = 0
                continue
            }
            if result.error == SSL_ERROR_WANT_READ, !socketIsEmpty {
                // Something else than data has been read, and there may be more.
                idleReads += 1
                if idleReads <= Self.maximumIdleReads { continue }
                isBroken = true
            }
            let isWaiting =
                !isBroken && (result.error == SSL_ERROR_WANT_READ || result.error == SSL_ERROR_WANT_WRITE)
            if !isWaiting {
                hasEnded = true
                if result.error != SSL_ERROR_ZERO_RETURN { isBroken = true }
            }
            if received > 0 { break }
            return isWaiting ? .wouldBlock : .closed
        }
        return .bytes(received)
    }

    private func read(_ buffer: inout MutableRawSpan, at offset: Int) -> (count: Int, error: Int32) {
        ERR_clear_error()
        return unsafe buffer.withUnsafeMutableBytes { bytes in
            var count = 0
            let result = unsafe SSL_read_ex(
                connection, bytes.baseAddress?.advanced(by: offset), bytes.count - offset, &count)
            if result == 1 { return (count, SSL_ERROR_NONE) }
            defer { ERR_clear_error() }
            return (0, unsafe SSL_get_error(connection, result))
        }
    }

    private func discard(_ buffer: inout MutableRawSpan) -> Socket.Progress {
        for _ in 0..<Self.maximumIdleReads {
            let progress = socket.receive(into: &buffer)
            guard case .bytes = progress else { return progress }
        }
        return .wouldBlock
    }

    /// Sends from the start of `bytes`.
    ///
    /// After `.wouldBlock`, or when not all was sent, the next call must begin with the bytes that are left, and no
    /// fewer of them than there were up to 16 KiB: they are in a record already.
    func send(_ bytes: RawSpan) -> Socket.Progress {
        guard !isBroken, isEstablished else { return .closed }
        var sent = 0
        while sent < bytes.byteCount {
            updateKey()
            let piece = bytes.extracting(sent..<min(bytes.byteCount, sent + Self.recordSize))
            let result = write(piece)
            if result.count > 0 {
                sent += result.count
                bytesLeftForKey -= result.count
                continue
            }
            if result.error == SSL_ERROR_WANT_READ || result.error == SSL_ERROR_WANT_WRITE {
                return sent > 0 ? .bytes(sent) : .wouldBlock
            }
            isBroken = true
            return sent > 0 ? .bytes(sent) : .closed
        }
        return .bytes(sent)
    }

    private func write(_ bytes: RawSpan) -> (count: Int, error: Int32) {
        ERR_clear_error()
        return unsafe bytes.withUnsafeBytes { bytes in
            var count = 0
            let result = unsafe SSL_write_ex(connection, bytes.baseAddress, bytes.count, &count)
            if result == 1 { return (count, SSL_ERROR_NONE) }
            defer { ERR_clear_error() }
            return (0, unsafe SSL_get_error(connection, result))
        }
    }

    private func updateKey() {
        guard bytesLeftForKey <= 0 else { return }
        ERR_clear_error()
        // TLS 1.2 has no such message. A record that has left in part comes first: the update is for the next call.
        let isDone =
            unsafe SSL_version(connection) < TLS1_3_VERSION
            || SSL_key_update(connection, SSL_KEY_UPDATE_NOT_REQUESTED) == 1
        if isDone { bytesLeftForKey = keyUpdateInterval }
        ERR_clear_error()
    }

    /// Tells the other side that nothing more will come; it can still be heard.
    func endSending() {
        if isEstablished, !isBroken {
            ERR_clear_error()
            unsafe SSL_shutdown(connection)
            ERR_clear_error()
        }
        socket.endSending()
    }
}
