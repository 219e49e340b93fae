# SPDX-License-Identifier: Apache-2.0
"""A client that says what it is told to, right or wrong. For the other helpers."""
import socket
import struct

IHAVEOPT = 0x49484156454F5054
REQUEST_MAGIC = 0x25609513
REPLY_MAGIC = 0x67446698
FIXED_NEWSTYLE, NO_ZEROES = 1, 2
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED_REPLY = 1, 2, 3, 5, 6, 7, 8
LIST_META_CONTEXT, SET_META_CONTEXT = 9, 10
READ, WRITE, DISCONNECT, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
EPERM, EIO, EINVAL, ENOTSUP = 1, 5, 22, 95


class Client:
    """`place` is the path of a Unix socket, or ADDRESS:PORT."""

    def __init__(self, place, timeout=20):
        if place.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            # Before there is a timeout: connect would not wait for a place in the queue of a busy server.
            self.socket.connect(place)
            self.socket.settimeout(timeout)
        else:
            host, port = place.rsplit(":", 1)
            self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout)
        self.size = None

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, count):
        """Exactly `count` bytes; EOFError when the server hangs up first."""
        data = bytearray()
        while len(data) < count:
            piece = self.socket.recv(min(count - len(data), 1 << 20))
            if not piece:
                raise EOFError(f"hung up after {len(data)} of {count} bytes")
            data += piece
        return bytes(data)

    def greet(self, flags=FIXED_NEWSTYLE | NO_ZEROES):
        magic, option_magic, server_flags = struct.unpack(">QQH", self.receive(18))
        assert magic == 0x4E42444D41474943 and option_magic == IHAVEOPT and server_flags == 3
        self.send(struct.pack(">I", flags))

    def option(self, number, data=b"", length=None, magic=IHAVEOPT):
        self.send(struct.pack(">QII", magic, number, len(data) if length is None else length) + data)

    def option_reply(self):
        """Option, type and data of one reply."""
        magic, option, kind, length = struct.unpack(">QIII", self.receive(20))
        assert magic == 0x3E889045565A9, hex(magic)
        return option, kind, self.receive(length)

    def negotiate(self):
        """Chooses the default export."""
        self.greet()
        self.option(EXPORT_NAME)
        self.size, flags = struct.unpack(">QH", self.receive(10))
        return flags

    def request(self, command, offset, length, cookie=1, flags=0, payload=b"", magic=REQUEST_MAGIC):
        self.send(struct.pack(">IHHQQI", magic, flags, command, cookie, offset, length) + payload)

    def receive_reply(self, cookie=1):
        """The error number of a simple reply."""
        magic, error, found = struct.unpack(">IIQ", self.receive(16))
        assert magic == REPLY_MAGIC and found == cookie, (hex(magic), found)
        return error

    def read(self, offset, length, cookie=1):
        """The bytes, or the error number."""
        self.request(READ, offset, length, cookie)
        error = self.receive_reply(cookie)
        return error if error else self.receive(length)

    def is_closed(self):
        """Does the server hang up, without saying anything else?"""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.socket.close()
