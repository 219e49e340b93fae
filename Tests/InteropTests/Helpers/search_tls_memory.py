#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Searches the memory of a running server for its private key and its pre-shared keys.

    search_tls_memory.py PID SERVER-KEY.PEM|- KEYS.PSK|-

Looks for the numbers of the private key, as files and as processors write them, for the text of the files, and for the
pre-shared keys, by two pieces of 16 bytes of each, in all readable mappings.

Prints JSON: for each secret, where pieces of it were found; [] is nowhere.
"""
import json
import sys

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from search_memory import PIECE, mappings, where


def secrets(path):
    """What of a private key nobody may know."""
    with open(path, "rb") as file:
        text = file.read()
    key = load_pem_private_key(text, None)
    if isinstance(key, rsa.RSAPrivateKey):
        private = key.private_numbers()
        numbers = [private.p, private.q, private.d, private.dmp1, private.dmq1, private.iqmp]
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = [key.private_numbers().private_value]
    else:
        assert isinstance(key, ed25519.Ed25519PrivateKey)
        raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        numbers = [int.from_bytes(raw, "big")]
    raw = [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in numbers]
    lines = text.split(b"\n")[1:-2]
    return {
        "key": raw, "key in words": [number[::-1] for number in raw],
        # The first line of a key of a kind begins as all of them do.
        "text of the key": lines[1:-1] or [lines[0][40:]],
    }


def pre_shared(path):
    with open(path) as file:
        digits = [line.strip().rsplit(":", 1)[1] for line in file if ":" in line]
    return {
        "pre-shared key": [bytes.fromhex(key) for key in digits],
        "text of the pre-shared key": [key.encode() for key in digits],
    }


def main():
    pid, key, keys = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    wanted = {**({} if key == "-" else secrets(key)), **({} if keys == "-" else pre_shared(keys))}
    # Copies are whole ones: two pieces tell them, and more would take minutes.
    pieces = [
        (name, value[start:start + PIECE])
        for name, values in wanted.items() for value in values for start in {len(value) // 4, len(value) // 2}]
    found = {name: set() for name in wanted}
    searched = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, name, _, flags in mappings(pid):
            position = start
            while position < end:
                memory.seek(position)
                try:
                    data = memory.read(min(end - position, 16 << 20))
                except OSError:
                    break
                searched += len(data)
                for secret, piece in pieces if any(data) else []:
                    if piece in data:
                        found[secret].add(where(name, flags))
                position += len(data)
    print(json.dumps({"searched": searched, "found": {name: sorted(places) for name, places in found.items()}}))


main()
