# SPDX-License-Identifier: Apache-2.0
"""Sector encryption as dm-crypt defines it, made independently of the program: the oracle of many LUKS images.

The block ciphers are those of Python's `cryptography` (ARIA: of the openssl program); modes and initialisation vectors
are written out here from their definitions. Everything is encryption: whoever has the plaintext of an image can make its
ciphertext and compare.
"""
import hashlib
import struct
import subprocess
import warnings

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

with warnings.catch_warnings():
    # Nobody should encrypt with these any more; images that somebody did are read all the same.
    warnings.simplefilter("ignore")
    ALGORITHMS = {
        "aes": algorithms.AES, "camellia": algorithms.Camellia, "sm4": algorithms.SM4, "cast5": algorithms.CAST5,
        "blowfish": algorithms.Blowfish, "des3_ede": algorithms.TripleDES, "aria": None,
    }
BLOCK_SIZE = {"cast5": 8, "blowfish": 8, "des3_ede": 8}


def has_cipher(spec):
    """Is there all that a specification like `aes-xts-plain64` needs? Whirlpool is not, nor eboiv but for one block of CBC."""
    return spec.split("-")[0] in ALGORITHMS and ":wp" not in spec and not spec.endswith("lrw-eboiv")


def encrypt_blocks(name, key, blocks):
    """The bare block cipher, on each block by itself."""
    if name == "aria":
        command = ["openssl", "enc", f"-aria-{len(key) * 8}-ecb", "-nopad", "-K", key.hex()]
        return subprocess.run(command, input=blocks, stdout=subprocess.PIPE, check=True).stdout
    encryptor = Cipher(ALGORITHMS[name](key), modes.ECB()).encryptor()
    return encryptor.update(blocks) + encryptor.finalize()


def exclusive_or(left, right):
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


class SectorCipher:
    """A cipher in a mode with an IV, e.g. `aes-cbc-essiv:sha256`."""

    def __init__(self, spec, key, sector_size=512):
        parts = spec.split("-", 2)
        self.name, self.mode = parts[:2]
        self.iv = parts[2] if len(parts) > 2 else "null"
        self.key = key
        self.sector_size = sector_size
        self.block = BLOCK_SIZE.get(self.name, 16)

    def _iv(self, number):
        """The IV, before it is encrypted by what needs that; `number` counts 512 bytes whatever the sector size."""
        kind = self.iv.split(":")[0]
        if kind == "null":
            return bytes(self.block)
        if kind == "plain":
            return struct.pack("<I", number & 0xFFFFFFFF).ljust(self.block, b"\0")
        if kind in ("plain64", "essiv"):
            return struct.pack("<Q", number).ljust(self.block, b"\0")
        if kind == "plain64be":
            return struct.pack(">Q", number).rjust(self.block, b"\0")
        if kind == "benbi":
            shift = 9 - self.block.bit_length() + 1
            return struct.pack(">Q", (number << shift) + 1).rjust(self.block, b"\0")
        if kind == "eboiv":
            return struct.pack("<Q", number * self.sector_size).ljust(self.block, b"\0")
        raise ValueError(f"no IV {self.iv}")

    def _ivs(self, first, count):
        ivs = b"".join(self._iv(first + index * (self.sector_size // 512)) for index in range(count))
        if self.iv.startswith("essiv:"):
            return encrypt_blocks(self.name, hashlib.new(self.iv.split(":")[1].replace("-", "_"), self.key).digest(), ivs)
        if self.iv.split(":")[0] == "eboiv" and self.mode != "ecb":
            return encrypt_blocks(self.name, self.key, ivs)
        return ivs

    def encrypt(self, data, first=0):
        """Encrypts sectors, the first of which has the number `first`; an incomplete last one is filled with zeros."""
        size, block = self.sector_size, self.block
        whole = data.ljust(-(-len(data) // size) * size, b"\0")
        count = len(whole) // size
        ivs = self._ivs(first, count)
        result = getattr(self, "_" + self.mode)(whole, ivs, count)
        assert len(result) == len(whole) and block <= size
        return result[:len(data)]

    def _ecb(self, data, _ivs, _count):
        return encrypt_blocks(self.name, self.key, data)

    def _xts(self, data, ivs, count):
        half = len(self.key) // 2
        tweaks = encrypt_blocks(self.name, self.key[half:], ivs)
        mask = bytearray()
        for sector in range(count):
            tweak = int.from_bytes(tweaks[16 * sector:16 * sector + 16], "little")
            for _ in range(self.sector_size // 16):
                mask += tweak.to_bytes(16, "little")
                tweak = (tweak << 1) ^ (tweak >> 127) * ((1 << 128) | 0x87)
        return exclusive_or(encrypt_blocks(self.name, self.key[:half], exclusive_or(data, mask)), mask)

    def _lrw(self, data, ivs, count):
        """Draft 4 of IEEE P1619: the tweak of a block is its number times the last block of the key, in GF(2^128)."""
        powers = [int.from_bytes(self.key[-16:], "big")]
        for _ in range(127):
            powers.append((powers[-1] << 1) ^ (powers[-1] >> 127) * ((1 << 128) | 0x87))
        mask = bytearray()
        for sector in range(count):
            start = int.from_bytes(ivs[16 * sector:16 * sector + 16], "big")
            for index in range(self.sector_size // 16):
                tweak = 0
                for bit, power in enumerate(powers):
                    tweak ^= power * ((start + index) >> bit & 1)
                mask += tweak.to_bytes(16, "big")
        return exclusive_or(encrypt_blocks(self.name, self.key[:-16], exclusive_or(data, mask)), mask)

    def _ctr(self, data, ivs, count):
        block, counters = self.block, bytearray()
        for sector in range(count):
            start = int.from_bytes(ivs[block * sector:block * (sector + 1)], "big")
            for index in range(self.sector_size // block):
                counters += ((start + index) % (1 << 8 * block)).to_bytes(block, "big")
        return exclusive_or(data, encrypt_blocks(self.name, self.key, bytes(counters)))

    def _cbc(self, data, ivs, count):
        """All sectors together, one block of each at a time."""
        size, block = self.sector_size, self.block
        chain, columns = ivs, []
        for place in range(0, size, block):
            plain = b"".join(data[start + place:start + place + block] for start in range(0, len(data), size))
            chain = encrypt_blocks(self.name, self.key, exclusive_or(plain, chain))
            columns.append(chain)
        return b"".join(
            column[sector * block:(sector + 1) * block] for sector in range(count) for column in columns)
