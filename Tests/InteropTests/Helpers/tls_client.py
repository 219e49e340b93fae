# SPDX-License-Identifier: Apache-2.0
"""TLS for a client that says what it is told to, right or wrong; and what its tests have in common."""
import socket
import ssl
import struct
import warnings

import nbd_client as nbd

KIB = 1 << 10


class Secured:
    """A socket with TLS over it, whose records can be cut anywhere; used in the place of a socket."""

    def __init__(self, raw, context, piece=None):
        self.raw, self.piece = raw, piece
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def flush(self):
        data = self.outgoing.read()
        size = self.piece or len(data) or 1
        for start in range(0, len(data), size):
            self.raw.sendall(data[start:start + size])

    def call(self, function, *arguments):
        """Calls a function of the SSLObject as often as it wants more bytes."""
        while True:
            try:
                result = function(*arguments)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.raw.recv(64 * KIB)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            except ssl.SSLError:
                # An alert.
                self.flush()
                raise

    def handshake(self):
        self.call(self.tls.do_handshake)

    def sendall(self, data):
        for start in range(0, len(data), 16 * KIB):
            self.call(self.tls.write, data[start:start + 16 * KIB])

    def recv(self, count):
        try:
            return self.call(self.tls.read, count)
        except ssl.SSLZeroReturnError:
            return b""

    def records(self, data):
        """The records that hold some data, not sent."""
        self.tls.write(data)
        return self.outgoing.read()

    def close(self):
        self.raw.close()


def tls_context(authority, version=None):
    """For clients that trust the certificates in the file `authority`, and speak one version only if that is given."""
    context = ssl.create_default_context(cafile=authority)
    if version:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if version < ssl.TLSVersion.TLSv1_2:
                context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
    return context


def start_of_handshake(authority):
    """A ClientHello."""
    outgoing = ssl.MemoryBIO()
    tls = tls_context(authority).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def option(number, data=b""):
    """An option, to be sent in any way."""
    return struct.pack(">QII", nbd.IHAVEOPT, number, len(data)) + data


def reset(raw):
    """Closes a socket so that the other side gets a reset."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()


def all_until_end(connection):
    """What the server still sends before it hangs up."""
    data = b""
    try:
        while piece := connection.recv(64 * KIB):
            data += piece
    except ConnectionResetError:
        pass
    return data
