# SPDX-License-Identifier: Apache-2.0
"""What is in an image after it was written, by QEMU's reading of it: a fast server that writes the wrong thing is none."""

import dataclasses
import tempfile

from .process import Failed, run
from .servers import qemu_options


@dataclasses.dataclass(frozen=True)
class Scattered:
    """Blocks of one byte that were written at random places of a part of the disk. `count`: how many places; None when
    that is not known."""
    start: int
    end: int
    block: int
    byte: int
    count: int | None


def check_image(images, kind, path):
    """Raises Failed when the tables of a qcow2 image are not as they should be, lost clusters included."""
    if kind.startswith("qcow2"):
        run("qemu-img", "check", *images.secret, "--image-opts", qemu_options(kind, path))


def check_copy(images, kind, path, source):
    """Raises Failed when the disk in an image is not the file `source`."""
    check_image(images, kind, path)
    run("qemu-img", "compare", *images.secret, "--image-opts", qemu_options("raw", source), qemu_options(kind, path))


def check_scattered(images, kind, path, source, parts):
    """Raises Failed when the disk in an image is not the file `source` with what was written over parts of it."""
    check_image(images, kind, path)
    with tempfile.TemporaryDirectory(prefix="nbdecrypt-bench-", dir=images.fast_directory()) as directory:
        run("qemu-img", "convert", *images.secret, "--image-opts", qemu_options(kind, path), "-O", "raw",
            f"{directory}/disk")
        with open(f"{directory}/disk", "rb") as disk, open(source, "rb") as old:
            place = 0
            for part in sorted(parts, key=lambda part: part.start):
                _compare(disk, old, place, part.start, None)
                _compare(disk, old, part.start, part.end, part)
                place = part.end
            _compare(disk, old, place, images.mebibytes << 20, None)


def _compare(disk, old, start, end, part):
    """Compares two files from `start` to `end`; with a part, blocks may also be those that were written there."""
    disk.seek(start)
    old.seek(start)
    written = bytes([part.byte]) * part.block if part else None
    count = 0
    for place in range(start, end, 1 << 20):
        length = min(1 << 20, end - place)
        found, before = disk.read(length), old.read(length)
        if part is None:
            if found != before:
                raise Failed(f"the image has other bytes near {place} than before, where nothing was written")
            continue
        for offset in range(0, length, part.block):
            block = found[offset:offset + part.block]
            if block == written:
                count += 1
            elif block != before[offset:offset + part.block]:
                raise Failed(f"the image has bytes at {place + offset} that are neither those before nor those written")
    if part and part.count not in (None, count):
        raise Failed(f"{part.count} blocks of {part.block} bytes were written and the image has {count}")
