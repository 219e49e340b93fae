// SPDX-License-Identifier: Apache-2.0

import CTLS
import Glibc

/// How OpenSSL reaches the socket of a session: its own way would raise SIGPIPE when the client has gone.
@safe
struct TLSTransport: ~Copyable {
    private let method: OpaquePointer

    /// nil when there is no memory for it.
    init?() {
        guard let method = unsafe BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "socket of a session")
        else { return nil }
        unsafe BIO_meth_set_write(method, sendToSocket)
        unsafe BIO_meth_set_read(method, receiveFromSocket)
        unsafe BIO_meth_set_ctrl(method, control)
        unsafe self.method = unsafe method
    }

    deinit { unsafe BIO_meth_free(method) }

    /// Has `connection` use the socket of `session`, which must outlive it, and lets callbacks find the session.
    func attach(to connection: OpaquePointer, _ session: TLSSession) -> Bool {
        guard let bio = unsafe BIO_new(method) else { return false }
        let reference = unsafe Unmanaged.passUnretained(session).toOpaque()
        unsafe BIO_set_data(bio, reference)
        unsafe BIO_set_init(bio, 1)
        unsafe SSL_set_bio(connection, bio, bio)
        return unsafe SSL_set_ex_data(connection, 0, reference) == 1
    }

    /// The session of a connection, for callbacks.
    static func session(of connection: OpaquePointer?) -> TLSSession? {
        unsafe session(at: SSL_get_ex_data(connection, 0))
    }

    fileprivate static func session(at reference: UnsafeMutableRawPointer?) -> TLSSession? {
        guard let reference = unsafe reference else { return nil }
        return unsafe Unmanaged<TLSSession>.fromOpaque(reference).takeUnretainedValue()
    }
}

private func sendToSocket(_ bio: OpaquePointer?, _ bytes: UnsafePointer<CChar>?, _ count: Int32) -> Int32 {
    guard let session = unsafe TLSTransport.session(at: BIO_get_data(bio)), count > 0 else { return 0 }
    unsafe tls_bio_clear(bio)
    let span = unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(start: bytes, count: Int(count)))
    switch session.socket.send(span) {
    case .bytes(let sent): return Int32(sent)
    case .wouldBlock:
        unsafe tls_bio_would_write(bio)
        return -1
    case .closed: return -1
    }
}

private func receiveFromSocket(_ bio: OpaquePointer?, _ bytes: UnsafeMutablePointer<CChar>?, _ count: Int32) -> Int32 {
    guard let session = unsafe TLSTransport.session(at: BIO_get_data(bio)), count > 0 else { return 0 }
    unsafe tls_bio_clear(bio)
    var span = unsafe MutableRawSpan(_unsafeBytes: UnsafeMutableRawBufferPointer(start: bytes, count: Int(count)))
    switch session.socket.receive(into: &span) {
    case .bytes(let received):
        session.socketIsEmpty = false
        return Int32(received)
    case .wouldBlock:
        session.socketIsEmpty = true
        unsafe tls_bio_would_read(bio)
        return -1
    case .closed: return 0
    }
}

/// Nothing is held back, so flushing always works; other questions have no answer.
private func control(_: OpaquePointer?, _ command: Int32, _: Int, _: UnsafeMutableRawPointer?) -> Int {
    command == BIO_CTRL_FLUSH ? 1 : 0
}
