#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# libluksde-python 20260902: of a read that begins inside of a sector of 512 bytes and goes on past its end, what lies behind that
# end is wrong, without an error and with the right length. Reads that begin with a sector, and those that end in the one in which
# they begin, are right, so that a copy from start to end shows nothing of it. dissect.fve 4.6 reads all of them rightly.
#
# Needs python3 with venv and a compiler for the library, and qemu-img (any version).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q libluksde-python==20260902 dissect.fve==4.6
head -c 1M /dev/urandom >plain
printf 'correct horse' >secret
made=no
# qemu-img 7.2 now and then cannot measure the processor for the header.
for _ in $(seq 30); do
    if qemu-img convert -f raw -O luks --object secret,id=s,file=secret -o key-secret=s,iter-time=10 plain disk 2>/dev/null; then
        made=yes
        break
    fi
done
[ "$made" = yes ] || exit 2
venv/bin/python - <<'PYTHON'
import pyluksde
from dissect.fve.luks import LUKS

plain = open("plain", "rb").read()
volume = pyluksde.volume()
volume.set_password("correct horse")
volume.open("disk")
dissect = LUKS(open("disk", "rb"))
dissect.unlock_with_passphrase("correct horse")
stream = dissect.open()
assert b"".join(volume.read_buffer_at_offset(65536, offset) for offset in range(0, len(plain), 65536)) == plain
for offset, size in ((0, 700), (512, 1024), (100, 412), (100, 512), (5000, 5000), (65500, 600), (511, 300)):
    got = volume.read_buffer_at_offset(size, offset)
    want = plain[offset : offset + size]
    stream.seek(offset)
    assert stream.read(size) == want
    rest = min(size, 512 - offset % 512)
    print(f"{size} bytes at {offset}: {'right' if got == want else f'right to {rest}, then wrong'}")
    assert len(got) == size and got[:rest] == want[:rest]
    assert (got != want) == (offset % 512 != 0 and size > rest)
PYTHON
echo "as it was found"
