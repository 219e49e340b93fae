#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Encrypts a plain qcow2 image in place as old versions of QEMU did (crypt_method 1), with any key.

    encrypt_aes.py IMAGE KEY-IN-HEX

QEMU itself takes keys in UTF-8 only. Every standard cluster is encrypted with AES-128-CBC, sector by sector; the IV is
the guest sector number, 64-bit little-endian. openssl does the AES: all sectors together, one block of each at a time.
"""
import struct
import subprocess
import sys


def encrypt_blocks(key, blocks):
    command = ["openssl", "enc", "-aes-128-ecb", "-nopad", "-K", key]
    return subprocess.run(command, input=blocks, stdout=subprocess.PIPE, check=True).stdout


def exclusive_or(left, right):
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def encrypt(key, sectors):
    """Encrypts sectors of 512 bytes; `sectors` maps guest sector numbers to bytes."""
    numbers = list(sectors)
    chain = b"".join(struct.pack("<QQ", number, 0) for number in numbers)
    result = [b""] * len(numbers)
    for block in range(0, 512, 16):
        plain = b"".join(sectors[number][block:block + 16] for number in numbers)
        chain = encrypt_blocks(key, exclusive_or(plain, chain))
        for index in range(len(numbers)):
            result[index] += chain[index * 16:index * 16 + 16]
    return result


def main():
    path, key = sys.argv[1:]
    with open(path, "r+b") as file:
        image = bytearray(file.read())
        cluster = 1 << struct.unpack_from(">I", image, 20)[0]
        l1_count, l1_offset = struct.unpack_from(">IQ", image, 36)
        mask = 0x00FFFFFFFFFFFE00
        sectors, places = {}, {}
        for l1_index in range(l1_count):
            l2_offset = struct.unpack_from(">Q", image, l1_offset + l1_index * 8)[0] & mask
            for l2_index in range(cluster // 8 if l2_offset else 0):
                entry = struct.unpack_from(">Q", image, l2_offset + l2_index * 8)[0]
                if entry & 1 or entry >> 62 & 1 or not entry & mask:
                    continue
                for offset in range(0, cluster, 512):
                    guest = ((l1_index * (cluster // 8) + l2_index) * cluster + offset) // 512
                    place = (entry & mask) + offset
                    sectors[guest] = bytes(image[place:place + 512]).ljust(512, b"\0")
                    places[guest] = place
        for guest, data in zip(sectors, encrypt(key, sectors)):
            image[places[guest]:places[guest] + 512] = data
        struct.pack_into(">I", image, 32, 1)
        file.seek(0)
        file.write(image)


main()
