#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Searches the memory of a running server for what its LUKS container was unlocked with.

    search_memory.py PID CONTAINER PASSPHRASEFILE

Derives from a LUKS2 header (keyslot 0: pbkdf2, aes-xts-plain64) every secret that the server must have seen: passphrase,
keyslot key, split key material, volume key. Looks for each, in pieces of 16 bytes, in all readable mappings. The volume
key is needed as long as the disk is served: it may be found, in mappings that are locked and left out of core dumps.

Prints JSON: for each secret, where pieces of it were found; [] is nowhere.
"""
import base64
import hashlib
import json
import re
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PIECE = 16


def decrypt_xts(key, data):
    sectors = []
    for number in range(len(data) // 512):
        cipher = Cipher(algorithms.AES(key), modes.XTS(number.to_bytes(16, "little"))).decryptor()
        sectors.append(cipher.update(data[number * 512:(number + 1) * 512]) + cipher.finalize())
    return b"".join(sectors)


def diffuse(name, block):
    size = hashlib.new(name).digest_size
    parts = [block[start:start + size] for start in range(0, len(block), size)]
    return b"".join(
        hashlib.new(name, index.to_bytes(4, "big") + part).digest()[:len(part)] for index, part in enumerate(parts))


def secrets(container, passphrase):
    with open(container, "rb") as file:
        header = file.read(4096)
        size = int.from_bytes(header[8:16], "big")
        metadata = json.loads(file.read(size - 4096).split(b"\0")[0])
        slot = metadata["keyslots"]["0"]
        area, kdf, af = slot["area"], slot["kdf"], slot["af"]
        file.seek(int(area["offset"]))
        material = file.read(slot["key_size"] * af["stripes"])
    assert kdf["type"] == "pbkdf2" and area["encryption"] == "aes-xts-plain64"
    slot_key = hashlib.pbkdf2_hmac(
        kdf["hash"], passphrase, base64.b64decode(kdf["salt"]), kdf["iterations"], area["key_size"])
    split = decrypt_xts(slot_key, material)
    size = slot["key_size"]
    key = bytes(size)
    for stripe in range(af["stripes"]):
        part = split[stripe * size:(stripe + 1) * size]
        key = bytes(a ^ b for a, b in zip(key, part))
        if stripe + 1 < af["stripes"]:
            key = diffuse(af["hash"], key)
    digest = metadata["digests"]["0"]
    proof = hashlib.pbkdf2_hmac(
        digest["hash"], key, base64.b64decode(digest["salt"]), digest["iterations"], 32)
    assert proof == base64.b64decode(digest["digest"])[:32], "the helper itself found the wrong key"
    return {"passphrase": passphrase, "keyslot key": slot_key, "split key": split, "volume key": key}


def mappings(pid):
    """Start, end, name and flags of each readable mapping."""
    found = []
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", line)
            if head:
                current = [int(head[1], 16), int(head[2], 16), head[4].strip(), head[3], []]
                found.append(current)
            elif line.startswith("VmFlags:"):
                current[4] = line.split()[1:]
    return [m for m in found if m[3].startswith("r") and m[2] not in ("[vvar]", "[vsyscall]", "[vvar_vclock]")]


def where(name, flags):
    """How a mapping is told in a report."""
    return f"{name or 'anonymous'} {'locked' if 'lo' in flags else 'not locked'} " \
        f"{'not dumped' if 'dd' in flags else 'dumped'}"


def main():
    pid, container, passphrase_file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    with open(passphrase_file, "rb") as file:
        wanted = secrets(container, file.read())
    pieces = {}
    for name, secret in wanted.items():
        for start in range(0, len(secret) - PIECE + 1, PIECE):
            pieces.setdefault(secret[start:start + PIECE], name)
    # One pass over the memory for all pieces: each window of the memory is looked up by its bytes.
    pattern = re.compile(b"|".join(re.escape(piece) for piece in pieces if pieces[piece] != "split key"))
    split = {piece for piece, name in pieces.items() if name == "split key"}
    found = {name: set() for name in wanted}
    searched = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, name, _, flags in mappings(pid):
            place = where(name, flags)
            position = start
            while position < end:
                count = min(end - position, 16 << 20)
                memory.seek(position)
                try:
                    data = memory.read(count)
                except OSError:
                    break
                searched += len(data)
                for match in pattern.finditer(data):
                    found[pieces[match[0]]].add(place)
                # Memory that is not blank can hold the split key at any multiple of 8 bytes.
                for page in range(0, len(data), 4096):
                    block = data[page:page + 4096 + PIECE]
                    if any(block):
                        for offset in range(0, min(4096, len(block)), 8):
                            if block[offset:offset + PIECE] in split:
                                found["split key"].add(place)
                position += count
    print(json.dumps({"searched": searched, "found": {name: sorted(places) for name, places in found.items()}}))


if __name__ == "__main__":
    main()
