#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# libqcow-python 20260703: a qcow2 image with LUKS inside (crypt_method 2) opens without a secret, is_locked() says False, and
# reading gives bytes that are not those of the disk, without an error; with the passphrase, other bytes that are not. Of an
# image with AES, the same passphrase gives the disk.
#
# Needs python3 with venv and a compiler for the library, and qemu-img (any version).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q libqcow-python==20260703
head -c 1M /dev/urandom >plain
printf 'correct horse' >secret
make() {
    # qemu-img 7.2 now and then cannot measure the processor for the header.
    for _ in $(seq 30); do
        qemu-img convert -f raw -O qcow2 --object secret,id=s,file=secret -o "$1" plain "$2" 2>/dev/null && return
    done
    exit 2
}
make encrypt.format=luks,encrypt.key-secret=s luks.qcow2
make encrypt.format=aes,encrypt.key-secret=s aes.qcow2
venv/bin/python - <<'PYTHON'
import pyqcow

plain = open("plain", "rb").read()


def contents(name, password=None):
    image = pyqcow.file()
    if password:
        image.set_password(password)
    image.open(name)
    return image.is_locked(), image.read_buffer(len(plain))


results = {
    (name, password): contents(name, password) for name in ("aes.qcow2", "luks.qcow2") for password in (None, "correct horse")
}
for (name, password), (locked, got) in results.items():
    given = "with" if password else "without"
    print(f"{name} {given} passphrase: locked {locked}, {len(got)} bytes, {'' if got == plain else 'not '}the plaintext")
assert results["aes.qcow2", "correct horse"] == (False, plain)
without, right = results["luks.qcow2", None], results["luks.qcow2", "correct horse"]
assert not without[0] and not right[0] and plain not in (without[1], right[1]) and without[1] != right[1]
PYTHON
echo "as it was found"
