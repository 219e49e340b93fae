# SPDX-License-Identifier: Apache-2.0
"""A small NBD client, for what the real ones do not show or do: the time to the first byte, idle connections, writes
with FUA."""

import socket
import struct
import time

from .process import Failed

OPTION_GO = 7
READ, WRITE, FLUSH = 0, 1, 3
FLAG_FUA = 1
REPLY_ACK, REPLY_INFO = 1, 3
INFO_EXPORT = 0
SIMPLE_REPLY = 0x67446698


class Client:
    """A connection to the default export, ready to transfer. Raises OSError as long as nobody listens."""

    def __init__(self, path):
        self.size = 0
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.settimeout(30)
            self.socket.connect(str(path))
            self._negotiate()
        except BaseException:
            self.close()
            raise

    def _negotiate(self):
        magic, option_magic, flags = struct.unpack(">8s8sH", self._receive(18))
        if (magic, option_magic) != (b"NBDMAGIC", b"IHAVEOPT"):
            raise Failed("the server does not speak NBD")
        self.socket.sendall(struct.pack(">I8sIIIH", flags & 3, b"IHAVEOPT", OPTION_GO, 6, 0, 0))
        while True:
            _, _, kind, length = struct.unpack(">QIII", self._receive(20))
            data = self._receive(length)
            if kind == REPLY_INFO and data[:2] == struct.pack(">H", INFO_EXPORT):
                (self.size,) = struct.unpack(">Q", data[2:10])
            elif kind == REPLY_ACK:
                return
            elif kind != REPLY_INFO:
                raise Failed(f"the server answers NBD_OPT_GO with {kind:#x}: {data.decode(errors='replace')}")

    def read(self, offset, count):
        self._send(READ, 1, offset, count)
        self._reply("a read")
        return self._receive(count)

    def flush(self):
        self._send(FLUSH, 1, 0, 0)
        self._reply("a flush")

    def write_each(self, offsets, data, depth, flags=0, seconds=None):
        """Writes `data` at each offset, with `depth` requests in flight, until there are no more or the time is over.
        Gives how many were written."""
        offsets, end = iter(offsets), time.monotonic() + (seconds or float("inf"))
        sent = done = 0
        while True:
            while sent - done < depth and time.monotonic() < end:
                offset = next(offsets, None)
                if offset is None:
                    end = 0
                    break
                self._send(WRITE, sent, offset, len(data), data, flags)
                sent += 1
            if sent == done:
                return done
            self._reply("a write")
            done += 1

    def _send(self, kind, cookie, offset, count, data=b"", flags=0):
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, count) + data)

    def _reply(self, what):
        magic, error, _ = struct.unpack(">IIQ", self._receive(16))
        if magic != SIMPLE_REPLY or error:
            raise Failed(f"the server answers {what} with error {error}")

    def close(self):
        self.socket.close()

    def _receive(self, count):
        data = bytearray()
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the server has hung up")
            data += part
        return bytes(data)
