# SPDX-License-Identifier: Apache-2.0
"""Writes volume labels whose own tools want a block device and a kernel driver.

usage: labels.py lvm|md IMAGE
"""

import os
import struct
import sys
import zlib


def lvm(size):
    """An LVM2 label and an empty metadata area: LVM2, lib/format_text/layout.h and lib/label/label.c."""
    uuid = b"aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"
    header = uuid + struct.pack("<Q", size) + struct.pack("<4Q", 1 << 20, 0, 0, 0)
    header += struct.pack("<4Q", 4096, (1 << 20) - 4096, 0, 0) + struct.pack("<II", 2, 1) + bytes(16)
    rest = struct.pack("<I8s", 32, b"LVM2 001") + header
    # The label's checksum is a CRC with its own start value, over the rest of the sector.
    label = b"LABELONE" + struct.pack("<Q", 1)
    body = rest.ljust(512 - 20, b"\0")
    crc = zlib.crc32(body, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return 512, label + struct.pack("<I", crc) + body


def md(size):
    """A superblock of version 1.2: Linux, include/uapi/linux/raid/md_p.h."""
    block = struct.pack("<4I", 0xA92B4EFC, 1, 0, 0) + bytes(range(16)) + b"host:0".ljust(32, b"\0")
    block += struct.pack("<QIIQIIII", 0, 1, 0, size // 512 - 2048, 0, 2, 0, 0)
    block = block.ljust(128, b"\0")
    block += struct.pack("<QQQQII", 2048, size // 512 - 2048, 8, 0, 0, 0) + bytes(range(16, 32))
    return 4096, block.ljust(256, b"\0") + struct.pack("<2H", 0, 1) + b"\xff" * 508


kind, path = sys.argv[1:]
offset, block = {"lvm": lvm, "md": md}[kind](os.path.getsize(path))
with open(path, "r+b") as image:
    image.seek(offset)
    image.write(block)
