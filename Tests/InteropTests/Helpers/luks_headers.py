# SPDX-License-Identifier: Apache-2.0
"""LUKS headers, read, made and changed from their two on-disk specifications, independently of the program.

cryptsetup makes most headers of the matrix; those that it cannot make, or does not, are made here.
"""
import base64
import ctypes
import ctypes.util
import functools
import hashlib
import json
import struct
import uuid

from luks_ciphers import SectorCipher

STRIPES = 4000
# Hashes that Python does not have, by their numbers in libgcrypt.
LIBGCRYPT_HASHES = {"stribog256": 309, "stribog512": 310}


@functools.cache
def _libgcrypt():
    library = ctypes.CDLL(ctypes.util.find_library("gcrypt"))
    library.gcry_check_version(None)
    library.gcry_kdf_derive.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t,
        ctypes.c_ulong, ctypes.c_size_t, ctypes.c_char_p]
    return library


def digest(name, data):
    number = LIBGCRYPT_HASHES.get(name)
    if number is None:
        return hashlib.new(name.replace("-", "_") if name.startswith("sha3") else name, data).digest()
    result = ctypes.create_string_buffer(int(name[-3:]) // 8)
    _libgcrypt().gcry_md_hash_buffer(number, result, data, ctypes.c_size_t(len(data)))
    return result.raw


@functools.cache
def digest_size(name):
    return len(digest(name, b""))


def pbkdf2(name, secret, salt, iterations, count):
    number = LIBGCRYPT_HASHES.get(name)
    if number is None:
        return hashlib.pbkdf2_hmac(name.replace("-", "_"), secret, salt, iterations, count)
    result = ctypes.create_string_buffer(count)
    failed = _libgcrypt().gcry_kdf_derive(
        secret, len(secret), 34, number, salt, len(salt), iterations, count, result)
    if failed:
        raise ValueError(f"libgcrypt: error {failed} in PBKDF2 with {name}")
    return result.raw


def _diffuse(name, block):
    """Hashes a stripe, piece by piece of the digest's size, each with its number before it."""
    size = digest_size(name)
    pieces = [block[start:start + size] for start in range(0, len(block), size)]
    return b"".join(
        digest(name, struct.pack(">I", index) + piece)[:len(piece)] for index, piece in enumerate(pieces))


def split(name, key, noise):
    """The anti-forensic splitter; `noise` gives random bytes."""
    chain, stripes = bytes(len(key)), []
    for _ in range(STRIPES - 1):
        stripe = noise(len(key))
        stripes.append(stripe)
        chain = _diffuse(name, bytes(a ^ b for a, b in zip(stripe, chain)))
    stripes.append(bytes(a ^ b for a, b in zip(chain, key)))
    return b"".join(stripes)


def encrypted_area(cipher, material):
    """Key material as it is stored: in whole sectors."""
    return cipher.encrypt(material.ljust(-(-len(material) // 512) * 512, b"\0"))


# --- LUKS1


def luks1_payload(path):
    """Where the data begins, in sectors."""
    with open(path, "rb") as file:
        return struct.unpack_from(">I", file.read(592), 104)[0]


def set_luks1_payload(path, sectors):
    with open(path, "r+b") as file:
        file.seek(104)
        file.write(struct.pack(">I", sectors))


def luks1_header(spec, key, passphrase, hash_name, noise, payload=None, iterations=1000, slot=0):
    """A header with one keyslot in use, up to the payload."""
    cipher, _, mode = spec.partition("-")
    stride = -(-len(key) * STRIPES // 4096) * 8
    places = [8 + index * stride for index in range(8)]
    payload = payload or 8 + 8 * stride
    slot_salt, key_salt = noise(32), noise(32)
    header = struct.pack(
        ">6sH32s32s32sII20s32sI40s", b"LUKS\xba\xbe", 1, cipher.encode(), mode.encode(), hash_name.encode(), payload,
        len(key), pbkdf2(hash_name, key, key_salt, iterations, 20), key_salt, iterations,
        str(uuid.UUID(bytes=noise(16))).encode())
    for index, place in enumerate(places):
        if index == slot:
            header += struct.pack(">II32sII", 0x00AC71F3, iterations, slot_salt, place, STRIPES)
        else:
            header += struct.pack(">II32sII", 0x0000DEAD, 0, bytes(32), place, STRIPES)
    image = bytearray(header.ljust(payload * 512, b"\0"))
    slot_key = pbkdf2(hash_name, passphrase, slot_salt, iterations, len(key))
    area = encrypted_area(SectorCipher(spec, slot_key), split(hash_name, key, noise))
    image[places[slot] * 512:places[slot] * 512 + len(area)] = area
    return bytes(image)


# --- LUKS2


class LUKS2:
    """Both copies of a LUKS2 header in a file: `metadata` is the JSON, changed in place and stored by `write`."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.binary = bytearray(file.read(4096))
            assert self.binary[:8] == b"LUKS\xba\xbe\0\x02", "not LUKS2"
            self.size, self.sequence = struct.unpack_from(">QQ", self.binary, 8)
            text = file.read(self.size - 4096).rstrip(b"\0")
            file.seek(self.size)
            self.second = bytearray(file.read(4096))
        self.metadata = json.loads(text)

    @property
    def segments(self):
        return self.metadata["segments"]

    def copy(self, secondary, sequence):
        """The bytes of a copy."""
        binary = bytearray(self.second if secondary else self.binary)
        struct.pack_into(">Q", binary, 16, sequence)
        binary[448:512] = bytes(64)
        text = json.dumps(self.metadata, separators=(",", ":")).encode()
        assert len(text) < self.size - 4096, "the JSON is too long"
        area = text.ljust(self.size - 4096, b"\0")
        binary[448:480] = hashlib.sha256(bytes(binary) + area).digest()
        return bytes(binary) + area

    def write(self, copies=(0, 1), sequence=None):
        """Stores the JSON in these copies."""
        with open(self.path, "r+b") as file:
            for index in copies:
                file.seek(index * self.size)
                file.write(self.copy(index == 1, sequence or self.sequence))

    def set_keyslot(self, number, passphrase, key, hash_name, noise, iterations=1000):
        """Locks `key` anew in a PBKDF2 keyslot, with this hash."""
        keyslot = self.metadata["keyslots"][str(number)]
        area = keyslot["area"]
        salt = noise(32)
        keyslot["kdf"] = {"type": "pbkdf2", "hash": hash_name, "iterations": iterations, "salt": _base64(salt)}
        keyslot["af"]["hash"] = hash_name
        slot_key = pbkdf2(hash_name, passphrase, salt, iterations, area["key_size"])
        material = encrypted_area(SectorCipher(area["encryption"], slot_key), split(hash_name, key, noise))
        with open(self.path, "r+b") as file:
            file.seek(int(area["offset"]))
            file.write(material)

    def set_digest(self, number, key, hash_name, noise, iterations=1000):
        """Proves `key` anew, with this hash."""
        salt = noise(32)
        self.metadata["digests"][str(number)].update(
            hash=hash_name, iterations=iterations, salt=_base64(salt),
            digest=_base64(pbkdf2(hash_name, key, salt, iterations, digest_size(hash_name))))


def _base64(data):
    return base64.b64encode(data).decode()
