#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# dissect.hypervisor 3.21: one read of an overlay that is larger than its raw backing file leaves out what lies between the end
# of the backing file and the next cluster that the overlay stores, instead of giving zeros: what follows comes too early,
# and the read is short by as much, without an error, though the size is right. By seeking, the bytes are found at their place.
# qemu-img convert gives the zeros.
#
# Needs python3 with venv, qemu-img and qemu-io (any version).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q dissect.hypervisor==3.21
head -c 4M /dev/urandom >base.raw
qemu-img create -q -f qcow2 -F raw -b base.raw overlay.qcow2 6M
qemu-io -c 'write -q -P 7 5M 64k' overlay.qcow2
qemu-img convert -O raw overlay.qcow2 whole.raw
venv/bin/python - <<'PYTHON'
from pathlib import Path
from dissect.hypervisor.disk.qcow2 import QCow2

whole = Path("whole.raw").read_bytes()
disk = QCow2(Path("overlay.qcow2"))
stream = disk.open()
got = stream.read(disk.size)
print(f"size {disk.size}, read {len(got)} bytes at once; at 4 MiB of them: {got[4 << 20 :][:4].hex()}")
stream.seek(5 << 20)
stored = stream.read(1024)
print(f"at 5 MiB, by seeking: {stored[:4].hex()}")
assert len(whole) == disk.size == 6 << 20
assert got == whole[: 4 << 20] + b"\x07" * 65536
assert stored == whole[5 << 20 : (5 << 20) + 1024] == b"\x07" * 1024
PYTHON
echo "as it was found"
