#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that abuse TLS, one scenario a run. Fails when the server does not react as it should.

    tls_clients.py ADDRESS:PORT SCENARIO CA-CERT [DISK]

The export holds the bytes of the file DISK. The name of a scenario begins with what --tls is to be.
"""
import os
import random
import resource
import select
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import nbd_client as nbd
from nbd_client import LIST_META_CONTEXT, SET_META_CONTEXT, STARTTLS, Client
from tls_client import Secured, all_until_end, option, reset, start_of_handshake, tls_context

KIB = 1 << 10
EXTENDED_HEADERS = 11
ACK, ERR_POLICY, ERR_INVALID, ERR_TLS_REQD = 1, 0x80000002, 0x80000003, 0x80000005
STRUCTURED_MAGIC = 0x668E33EF
randomness = random.Random(2)


def expect(condition, *what):
    if not condition:
        raise AssertionError(what)


def greeted():
    client = Client(PLACE)
    client.greet()
    return client


def asked():
    """A client that may begin with TLS."""
    client = greeted()
    client.option(STARTTLS)
    expect(client.option_reply() == (STARTTLS, ACK, b""))
    return client


def secured(client=None, version=None, piece=None):
    """A client inside TLS that has not chosen an export."""
    client = client or asked()
    client.socket = Secured(client.socket, tls_context(CA_CERT, version), piece)
    client.socket.handshake()
    return client


def choose(client):
    client.option(nbd.EXPORT_NAME)
    client.size, _ = struct.unpack(">QH", client.receive(10))
    expect(client.size == len(DISK), client.size)
    return client


def expect_alive(client):
    for offset, length in [(0, 512), (512, 70_001), (len(DISK) - 513, 513)]:
        expect(client.read(offset, length) == DISK[offset:offset + length], "bytes at", offset)


def expect_option(client, number, data, reply):
    client.option(number, data)
    option, kind, text = client.option_reply()
    expect((option, kind) == (number, reply), number, data[:20], hex(kind), text)
    return text.decode()


def meta_context(name):
    return struct.pack(">III", 0, 1, len(name)) + name


# The negotiation


def require_tls_first():
    """Nothing but STARTTLS and a good-bye is answered in the clear."""
    client = greeted()
    for number in [nbd.LIST, nbd.INFO, nbd.GO, nbd.STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT,
                   EXTENDED_HEADERS, 77]:
        text = expect_option(client, number, b"", ERR_TLS_REQD)
        expect("TLS" in text, text)
    expect_option(client, nbd.GO, struct.pack(">IH", 0, 0), ERR_TLS_REQD)
    expect_option(client, STARTTLS, b"x", ERR_INVALID)
    expect_option(client, STARTTLS, b"", ACK)
    expect_alive(choose(secured(client)))
    client = greeted()
    client.option(nbd.ABORT)
    expect(client.option_reply()[1] == ACK and client.is_closed())


def require_export_name():
    """The option that allows no error reply ends the connection."""
    client = greeted()
    client.option(nbd.EXPORT_NAME)
    expect(client.is_closed())
    # So does a client that cannot be told anything.
    client = Client(PLACE)
    client.greet(0)
    client.option(nbd.EXPORT_NAME)
    expect(client.is_closed())


def off_starttls():
    """Where there is no TLS, that is said, and the negotiation goes on in the clear."""
    client = greeted()
    for _ in range(2):
        text = expect_option(client, STARTTLS, b"", ERR_POLICY)
        expect("no TLS" in text and "its operator can switch it on" in text, text)
    expect_alive(choose(client))
    client = greeted()
    client.send(option(STARTTLS) + option(nbd.EXPORT_NAME))
    expect(client.option_reply()[:2] == (STARTTLS, ERR_POLICY))
    client.receive(10)
    expect_alive(client)


def allow_data_behind():
    """What came in the clear behind STARTTLS is never looked at."""
    write = struct.pack(">IHHQQI", nbd.REQUEST_MAGIC, 0, nbd.WRITE, 1, 0, 512) + b"!" * 512
    client_hello = bytes.fromhex("1603010200010001fc0303")
    for behind in [b"I", option(nbd.LIST), option(nbd.EXPORT_NAME), option(nbd.EXPORT_NAME) + write,
                   option(STARTTLS), option(nbd.ABORT), client_hello, bytes(100_000)]:
        client = greeted()
        try:
            client.send(option(STARTTLS) + behind)
        except ConnectionError:
            pass
        data = all_until_end(client.socket)
        expect(data in (b"", struct.pack(">QIII", 0x3E889045565A9, STARTTLS, ACK, 0)), behind[:20], data)
    # Together with the flags, as the first thing of all.
    client = Client(PLACE)
    client.receive(18)
    client.send(struct.pack(">I", 3) + option(STARTTLS) + option(nbd.EXPORT_NAME) + write)
    expect(len(all_until_end(client.socket)) <= 20)


def allow_state_is_reset():
    """What was agreed on in the clear counts no more inside TLS."""
    for mode in [nbd.STRUCTURED_REPLY, EXTENDED_HEADERS]:
        for agree in [False, True]:
            client = greeted()
            expect_option(client, mode, b"", ACK)
            client.option(SET_META_CONTEXT, meta_context(b"base:allocation"))
            kinds = [client.option_reply()[1] for _ in range(2)]
            expect(kinds == [4, ACK], kinds)
            expect_option(client, STARTTLS, b"", ACK)
            secured(client)
            expect_option(client, SET_META_CONTEXT, meta_context(b"base:allocation"), ERR_INVALID)
            if agree:
                expect_option(client, nbd.STRUCTURED_REPLY, b"", ACK)
            choose(client)
            client.request(nbd.READ, 512, 512)
            if agree:
                magic, _, kind, _, length = struct.unpack(">IHHQI", client.receive(20))
                expect((magic, kind) == (STRUCTURED_MAGIC, 1), hex(magic), kind)
                expect(client.receive(length)[8:] == DISK[512:1024])
            else:
                expect(client.receive_reply() == 0 and client.receive(512) == DISK[512:1024])
                expect_alive(client)
                client.request(nbd.BLOCK_STATUS, 0, 512)
                expect(client.receive_reply() == nbd.EINVAL)
            client.close()


def allow_starttls_twice():
    for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
        client = secured(version=version)
        for _ in range(3):
            text = expect_option(client, STARTTLS, b"", ERR_INVALID)
            expect("already" in text, text)
        expect_alive(choose(client))


# The handshake


def allow_versions():
    """1.2 and 1.3 are spoken, older ones are not."""
    for version, name in [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]:
        client = secured(version=version)
        expect(client.socket.tls.version() == name)
        expect_alive(choose(client))
    for version in [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1]:
        client = asked()
        try:
            secured(client, version)
            raise AssertionError(version)
        except ssl.SSLError as error:
            expect("PROTOCOL_VERSION" in error.reason, error.reason)
        expect(client.socket.raw.recv(100) == b"")


def allow_weak_ciphers():
    """Nothing without forward secrecy and authenticated encryption, however old the client says it is."""
    for ciphers in ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384",
                    "ECDHE-ECDSA-NULL-SHA", "AECDH-AES128-SHA"]:
        context = tls_context(CA_CERT, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(ciphers + ":@SECLEVEL=0")
        client = asked()
        client.socket = Secured(client.socket, context)
        try:
            client.socket.handshake()
            raise AssertionError(ciphers)
        except ssl.SSLError as error:
            expect("HANDSHAKE_FAILURE" in error.reason, ciphers, error.reason)


def allow_no_client_hello():
    """Anything else than a ClientHello ends the connection, with an alert at most."""
    hello = start_of_handshake(CA_CERT)
    for data in [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(100), b"\xff" * 20_000, option(nbd.LIST),
                 option(nbd.EXPORT_NAME), bytes.fromhex("802e0100020015000000100100800200800300800600400400800700c0"),
                 b"\x16\x03\x01\xff\xff" + bytes(0xFFFF), b"\x16\x03\x01\x00\x00" * 1000,
                 b"\x15\x03\x01\x00\x02\x02\x28", b"\x17\x03\x03\x00\x10" + bytes(16), b"\x14\x03\x03\x00\x01\x01",
                 b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
                 hello[:60] + randomness.randbytes(len(hello) - 60), randomness.randbytes(5000)]:
        client = asked()
        try:
            client.send(data)
            # What may be the beginning of something is not answered at once.
            if not select.select([client.socket], [], [], 0.5)[0]:
                client.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = all_until_end(client.socket)
        expect(len(answer) <= 7 and answer[:1] in (b"", b"\x15"), data[:20], answer[:100])


def allow_single_bytes():
    """Handshake, options and requests byte by byte."""
    for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
        client = asked()
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        expect_alive(choose(secured(client, version, piece=1)))


def allow_wrong_authority():
    """A client that does not trust the server says so and goes; here the alert comes after its hello."""
    for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
        context = ssl.create_default_context()
        context.minimum_version = context.maximum_version = version
        client = asked()
        client.socket = Secured(client.socket, context)
        try:
            client.socket.handshake()
            raise AssertionError("trusts anybody")
        except ssl.SSLCertVerificationError:
            pass
        all_until_end(client.socket.raw)


def allow_renegotiation():
    """openssl s_client asks for a new handshake in TLS 1.2, and for new keys in 1.3, which is fine."""
    refused = conversation("-tls1_2", b"R\n")
    expect(b"no renegotiation" in refused.lower(), refused)
    # The control: s_client has sent what follows, too.
    for key in [b"k\n", b"K\n"]:
        said = conversation("-tls1_3", key)
        expect(b"KEYUPDATE" in said and b"an answer" in said, said)


def conversation(version, command):
    """What openssl s_client says that negotiates, gives a command, and negotiates again."""
    client = asked()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    process = subprocess.Popen(
        ["openssl", "s_client", version, "-connect", f"127.0.0.1:{port}", "-CAfile", CA_CERT, "-verify_return_error"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
    inner, _ = listener.accept()
    output = bytearray()

    def forward(source, target):
        try:
            while data := source.recv(64 * KIB):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def collect():
        while data := process.stdout.read(64 * KIB):
            output.extend(data)

    def wait_for(text, count=1):
        end = time.monotonic() + 20
        while output.count(text) < count and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        return output.count(text) >= count

    threads = [threading.Thread(target=forward, args=pair, daemon=True)
               for pair in [(inner, client.socket), (client.socket, inner)]]
    threads.append(threading.Thread(target=collect, daemon=True))
    for thread in threads:
        thread.start()
    reply = struct.pack(">QII", 0x3E889045565A9, 77, 0x80000001)
    expect(wait_for(b"Verify return code: 0"), bytes(output))
    process.stdin.write(option(77))
    expect(wait_for(reply), bytes(output))
    process.stdin.write(command)
    expect(wait_for(b"RENEGOTIATING" if command == b"R\n" else b"KEYUPDATE"), bytes(output))
    if command != b"R\n":
        process.stdin.write(option(77))
        expect(wait_for(reply, 2), bytes(output))
        output.extend(b"an answer")
    else:
        # s_client takes the refusal for a fault.
        process.wait(20)
    process.stdin.close()
    process.wait(20)
    threads[-1].join(20)
    return bytes(output)


# The end


def allow_truncated_replies():
    """Clients that go in the middle of a reply, without a good-bye of TLS."""
    for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
        for received in [0, 16, 17, 100_000]:
            for ending in ["reset", "close", "shutdown", "goodbye"]:
                client = choose(secured(version=version))
                for cookie in range(4):
                    client.request(nbd.READ, 0, len(DISK), cookie)
                client.receive(received)
                raw = client.socket.raw
                if ending == "reset":
                    reset(raw)
                elif ending == "shutdown":
                    # The sending side only: the server notices it nevertheless.
                    raw.shutdown(socket.SHUT_WR)
                    all_until_end(client.socket.raw)
                elif ending == "goodbye":
                    try:
                        client.socket.tls.unwrap()
                    except ssl.SSLError:
                        pass
                    client.socket.flush()
                    all_until_end(client.socket.raw)
                raw.close()


def allow_truncated_requests():
    """Clients that go in the middle of a request, a payload or a record: nothing of it is carried out."""
    length = 40_000
    request = struct.pack(">IHHQQI", nbd.REQUEST_MAGIC, 0, nbd.WRITE, 1, 0, length)
    for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
        for sent in [1, 27, 28, 29, 5000, 28 + length - 1]:
            for ending in ["reset", "close"]:
                client = choose(secured(version=version))
                client.send((request + b"!" * length)[:sent])
                reset(client.socket.raw) if ending == "reset" else client.close()
        # All of it is there, but the last record lacks its end; or is not what was encrypted.
        for fault in ["short", "changed", "reset"]:
            client = choose(secured(version=version))
            client.send(request + b"!" * (length - 100))
            record = client.socket.records(b"!" * 100)
            if fault == "changed":
                record = record[:-1] + bytes([record[-1] ^ 1])
                client.socket.raw.sendall(record)
                all_until_end(client.socket.raw)
                client.close()
            else:
                client.socket.raw.sendall(record[:-1])
                reset(client.socket.raw) if fault == "reset" else client.close()
        # In the middle of the handshake.
        hello = start_of_handshake(CA_CERT)
        for sent in [1, 5, 6, len(hello) - 1, len(hello)]:
            for ending in ["reset", "close", "shutdown"]:
                client = asked()
                client.send(hello[:sent])
                if ending == "shutdown":
                    client.socket.shutdown(socket.SHUT_WR)
                    all_until_end(client.socket)
                reset(client.socket) if ending == "reset" else client.close()


# Crowds


def half_open(count):
    """Clients that stop in every phase of the handshake."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    hello = start_of_handshake(CA_CERT)
    clients = []
    for index in range(count):
        client = asked()
        # Nothing, a part, or all but the last message.
        client.send([b"", hello[:11], hello[:-1], hello][index % 4])
        clients.append(client)
    return clients


def visit(count):
    """Leaves as soon as all are there."""
    for index, client in enumerate(half_open(int(count))):
        reset(client.socket) if index % 3 else client.close()


def crowd(count, ready):
    """Stays until the server hangs up on all; tells by the file `ready` that all are there."""
    clients = half_open(int(count))
    with open(ready + ".new", "w") as file:
        file.write("ready")
    os.rename(ready + ".new", ready)
    # None of them had to go before all were there.
    sizes = set()
    for index, client in enumerate(clients):
        client.socket.settimeout(30)
        data = all_until_end(client.socket)
        if index % 4 == 3:
            expect(data[:1] == b"\x16", "the answer to a ClientHello", data[:20])
        else:
            expect(data == b"", index, data[:20])
        sizes.add(len(data))
    expect(len(sizes) > 1)


if __name__ == "__main__":
    PLACE, CA_CERT = sys.argv[1], sys.argv[3]
    if sys.argv[2] in ("crowd", "visit"):
        globals()[sys.argv[2]](*sys.argv[4:])
    else:
        with open(sys.argv[4], "rb") as disk:
            DISK = disk.read()
        globals()[sys.argv[2]]()
