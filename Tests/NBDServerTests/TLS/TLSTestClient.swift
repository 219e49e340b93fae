// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CTLS
import Glibc
import SystemPackage
import Testing

@testable import NBDServer

/// A client of OpenSSL and the server's session, on the two ends of a socket pair, in one thread.
@safe
final class TLSPair {
    /// What a client is like.
    struct Client {
        /// `TLS1_2_VERSION` and the like; 0: what OpenSSL has by default.
        var version: Int32 = 0
        /// The directory of its certificate and of the authority that it trusts.
        var credentials: String?
        /// Its name and key for PSK.
        var identity: (name: String, key: [UInt8])?
        var suites = ""
    }

    let session: TLSSession
    let server: Socket
    let client: FileDescriptor
    private let connection: OpaquePointer
    private let context: OpaquePointer
    private let state: ClientState

    /// What OpenSSL's callbacks for the client use.
    private final class ClientState {
        let identity: (name: String, key: [UInt8])?
        var keyUpdatesSeen = 0
        init(_ identity: (name: String, key: [UInt8])?) { self.identity = identity }

        static func of(_ connection: OpaquePointer?) -> ClientState? {
            guard let reference = unsafe SSL_get_ex_data(connection, 0) else { return nil }
            return unsafe Unmanaged<ClientState>.fromOpaque(reference).takeUnretainedValue()
        }
    }

    /// How often the server has told the client of a new key.
    var keyUpdatesSeen: Int { state.keyUpdatesSeen }

    init(
        _ serverContext: TLSContext, _ settings: Client, bufferSize: Int32 = 0, keyUpdateInterval: Int = 64 << 30
    ) throws {
        var pair: [Int32] = [-1, -1]
        try #require(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        for descriptor in pair { _ = fcntl(descriptor, F_SETFL, O_NONBLOCK) }
        server = Socket(accepted: FileDescriptor(rawValue: pair[0]))
        client = FileDescriptor(rawValue: pair[1])
        if bufferSize > 0 {
            var size = bufferSize
            for descriptor in pair {
                unsafe setsockopt(
                    descriptor, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<Int32>.size))
            }
        }
        session = try TLSSession(serverContext, socket: server, keyUpdateInterval: keyUpdateInterval)
        unsafe context = try #require(unsafe SSL_CTX_new(TLS_client_method()))
        state = ClientState(settings.identity)
        unsafe try Self.set(context, settings)
        unsafe connection = try #require(unsafe SSL_new(context))
        unsafe SSL_set_ex_data(connection, 0, Unmanaged.passUnretained(state).toOpaque())
        unsafe SSL_set_msg_callback(connection) { isSent, _, type, bytes, count, connection, _ in
            guard isSent == 0, type == SSL3_RT_HANDSHAKE, count > 0,
                unsafe bytes?.load(as: UInt8.self) == UInt8(SSL3_MT_KEY_UPDATE)
            else { return }
            unsafe ClientState.of(connection)?.keyUpdatesSeen += 1
        }
        try #require(unsafe SSL_set_fd(connection, pair[1]) == 1)
        unsafe SSL_set_connect_state(connection)
    }

    private static func set(_ context: OpaquePointer, _ settings: Client) throws {
        unsafe SSL_CTX_set_security_level(context, 0)
        unsafe tls_set_mode(context)
        if settings.version != 0 {
            unsafe SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(settings.version), nil)
            unsafe SSL_CTX_ctrl(context, SSL_CTRL_SET_MAX_PROTO_VERSION, Int(settings.version), nil)
        }
        if !settings.suites.isEmpty { try #require(unsafe SSL_CTX_set_cipher_list(context, settings.suites) == 1) }
        if let directory = settings.credentials {
            try #require(unsafe SSL_CTX_load_verify_file(context, "\(directory)/ca-cert.pem") == 1)
            unsafe SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
            // A client without a certificate has the authority's alone.
            if unsafe SSL_CTX_use_certificate_chain_file(context, "\(directory)/client-cert.pem") == 1 {
                try #require(
                    unsafe SSL_CTX_use_PrivateKey_file(context, "\(directory)/client-key.pem", SSL_FILETYPE_PEM) == 1)
            }
        }
        if settings.identity != nil {
            unsafe SSL_CTX_set_psk_client_callback(context) { connection, _, name, nameCount, key, keyCount in
                guard let identity = unsafe ClientState.of(connection)?.identity,
                    identity.name.utf8.count < nameCount, identity.key.count <= keyCount
                else { return 0 }
                for (index, byte) in (Array(identity.name.utf8) + [0]).enumerated() {
                    unsafe name?[index] = CChar(bitPattern: byte)
                }
                for (index, byte) in identity.key.enumerated() { unsafe key?[index] = byte }
                return UInt32(identity.key.count)
            }
        }
        ERR_clear_error()
    }

    deinit {
        unsafe SSL_free(connection)
        unsafe SSL_CTX_free(context)
        server.close()
        hangUp()
    }

    private var isOpen = true

    /// Closes the client's end without a goodbye.
    func hangUp() {
        if isOpen { try? client.close() }
        isOpen = false
    }

    // MARK: - Handshake

    /// How both sides see the end of a handshake.
    struct Outcome {
        let server: TLSSession.Handshake
        /// The error that the client got; nil: none.
        let client: String?
    }

    /// Lets both sides go on by turns until each is done or has failed.
    func shakeHands() throws -> Outcome {
        var (serverIs, clientIs) = (TLSSession.Handshake.wantsRead, Progress.wouldBlock)
        for _ in 0..<100 {
            if clientIs == .wouldBlock { clientIs = clientStep { unsafe SSL_do_handshake(connection) } }
            if serverIs == .wantsRead || serverIs == .wantsWrite { serverIs = session.handshake() }
            if serverIs == .wantsRead || serverIs == .wantsWrite { continue }
            if case .failed = serverIs { session.endSending() }
            if clientIs == .wouldBlock { continue }
            // In TLS 1.3 a client thinks that it is done before the server has looked at its certificate.
            if clientIs == .done, case .failed = serverIs {
                var byte: UInt8 = 0
                clientIs = clientStep { unsafe SSL_read(connection, &byte, 1) }
            }
            if case .failed(let error) = clientIs { return Outcome(server: serverIs, client: error) }
            return Outcome(server: serverIs, client: nil)
        }
        throw Stuck()
    }

    /// Both sides wait for each other.
    struct Stuck: Error {}

    /// Makes the handshake, which must succeed.
    func connect() throws {
        let outcome = try shakeHands()
        try #require(outcome.server == .done)
        try #require(outcome.client == nil)
    }

    private enum Progress: Equatable {
        case done, wouldBlock
        case failed(String)
    }

    private func clientStep(_ call: () -> Int32) -> Progress {
        ERR_clear_error()
        let result = call()
        if result > 0 { return .done }
        let error = unsafe SSL_get_error(connection, result)
        if error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE { return .wouldBlock }
        guard let words = unsafe ERR_reason_error_string(ERR_get_error()) else { return .failed("hung up") }
        return .failed(unsafe String(cString: words))
    }

    /// Lets the client go on in a handshake once.
    /// - Returns: its error, if it has failed.
    @discardableResult
    func clientHandshakeStep() -> String? {
        if case .failed(let error) = clientStep({ unsafe SSL_do_handshake(connection) }) { return error }
        return nil
    }

    /// Has the client ask for a new handshake (TLS 1.2).
    func clientStartsRenegotiation() -> Bool {
        guard unsafe SSL_renegotiate(connection) == 1 else { return false }
        return clientHandshakeStep() == nil
    }

    /// Has the client send a new key (TLS 1.3), if the socket takes it.
    func clientUpdatesKey(asksServer: Bool) -> Bool {
        ERR_clear_error()
        let kind = asksServer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED
        return unsafe SSL_key_update(connection, kind) == 1 && SSL_do_handshake(connection) == 1
    }

    /// What a client sends to change its key many times; it is not sent.
    func clientKeyUpdates(_ count: Int) throws -> [UInt8] {
        let memory = try unsafe #require(unsafe BIO_new(BIO_s_mem()))
        unsafe SSL_set0_wbio(connection, memory)
        for _ in 0..<count { try #require(clientUpdatesKey(asksServer: false)) }
        var bytes = [UInt8](repeating: 0, count: 64 * count)
        let used = unsafe BIO_read(memory, &bytes, Int32(bytes.count))
        unsafe SSL_set0_wbio(connection, BIO_new_socket(client.rawValue, 0))
        return Array(bytes[..<max(0, Int(used))])
    }

    /// Has the client say goodbye.
    func clientGoodbye() { unsafe SSL_shutdown(connection) }

    // MARK: - Data

    /// Sends as the client what goes now.
    func clientSend(_ bytes: ArraySlice<UInt8>) -> Int {
        ERR_clear_error()
        let count = unsafe bytes.withUnsafeBytes { unsafe SSL_write(connection, $0.baseAddress, Int32($0.count)) }
        return max(0, Int(count))
    }

    /// Receives as the client what is there; nil: the server has said goodbye.
    func clientReceive(_ count: Int = 20_000) -> [UInt8]? {
        ERR_clear_error()
        var bytes = [UInt8](repeating: 0, count: count)
        let result = unsafe SSL_read(connection, &bytes, Int32(count))
        if result > 0 { return Array(bytes[..<Int(result)]) }
        return unsafe SSL_get_error(connection, result) == SSL_ERROR_ZERO_RETURN ? nil : []
    }

    /// Receives as the server into a buffer of `count` bytes.
    func serverReceive(_ count: Int = 4096) -> (progress: Socket.Progress, bytes: [UInt8]) {
        var buffer = [UInt8](repeating: 0, count: count)
        let progress = buffer.withMutableBytes { session.receive(into: &$0) }
        if case .bytes(let received) = progress { return (progress, Array(buffer[..<received])) }
        return (progress, [])
    }

    /// Sends as the server.
    func serverSend(_ bytes: [UInt8]) -> Socket.Progress { bytes.withBytes { session.send($0) } }

    /// Sends bytes in the clear, as the client.
    func sendRaw(_ bytes: [UInt8]) throws { _ = try client.writeAll(bytes) }
}
