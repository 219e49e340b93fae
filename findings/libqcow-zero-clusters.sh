#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# libqcow-python 20260703: where an overlay of version 3 has a cluster that reads as zeros, libqcow gives what the backing file has
# there, without an error: what was wiped in the overlay is back. Clusters that the overlay stores, and those that it leaves to
# the backing file, are right. In an overlay of version 2 QEMU stores the zeros, and all is right.
#
# Needs python3 with venv and a compiler for the library, and qemu-img and qemu-io (any version).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q libqcow-python==20260703
head -c 1M /dev/urandom >plain
qemu-img convert -f raw -O qcow2 plain base.qcow2
for compat in 1.1 0.10; do
    qemu-img create -q -f qcow2 -o "compat=$compat" -b base.qcow2 -F qcow2 "overlay-$compat.qcow2"
    qemu-io -c 'write -q -z 256k 128k' -c 'write -q -P 7 512k 64k' "overlay-$compat.qcow2"
    qemu-img convert -O raw "overlay-$compat.qcow2" "whole-$compat"
done
venv/bin/python - <<'PYTHON'
import pyqcow

plain = open("plain", "rb").read()
for compat in ("1.1", "0.10"):
    base, overlay = pyqcow.file(), pyqcow.file()
    base.open("base.qcow2")
    overlay.open(f"overlay-{compat}.qcow2")
    overlay.set_parent(base)
    whole = open(f"whole-{compat}", "rb").read()
    assert whole[262144:393216] == bytes(131072)
    got = b"".join(overlay.read_buffer_at_offset(65536, offset) for offset in range(0, len(whole), 65536))
    old = got[262144:393216] == plain[262144:393216]
    print(f"compat={compat}: {'right' if got == whole else 'wrong'}; what was zeroed: {'as in the backing file' if old else 'zeros'}")
    assert got[:262144] + got[393216:] == whole[:262144] + whole[393216:]
    assert old == (compat == "1.1") and (got == whole) == (compat == "0.10")
PYTHON
echo "as it was found"
