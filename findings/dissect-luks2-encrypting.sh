#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# dissect.fve 4.6: a LUKS2 container whose encryption has only begun (`cryptsetup reencrypt --encrypt --init-only`) still holds
# the disk in the clear, and says so: its segments in use are "linear", and the requirement online-reencrypt-v2 is mandatory,
# which a reader that does not know it has to heed. dissect.fve opens it with the passphrase and decrypts what was never
# encrypted: noise, without an error. Once `cryptsetup reencrypt --resume-only` has ended, the same calls give the disk.
#
# Needs python3 with venv, and cryptsetup (2.6 and 2.8 were seen; device-mapper is not needed).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q dissect.fve==4.6
head -c 4M /dev/urandom >plain
printf 'correct horse' >secret
cp plain disk
truncate -s +16M disk
cryptsetup reencrypt -q --encrypt --init-only --force-offline-reencrypt --reduce-device-size 16M --type luks2 --key-file secret \
    --pbkdf pbkdf2 --pbkdf-force-iterations 1000 disk
cp disk begun
cryptsetup reencrypt -q --resume-only --force-offline-reencrypt --key-file secret disk
cryptsetup luksDump begun | grep -i 'requirements'
venv/bin/python - <<'PYTHON'
from dissect.fve.luks import LUKS

plain = open("plain", "rb").read()


def contents(name):
    with open(name, "rb") as file:
        volume = LUKS(file)
        volume.unlock_with_passphrase("correct horse")
        return volume.open().read(len(plain))


ended, begun = contents("disk"), contents("begun")
clear = open("begun", "rb").read().find(plain[:512])
print(f"begun: {len(begun)} bytes, {'' if begun == plain else 'not '}the disk, which lies in the clear at {clear}")
print(f"ended: {len(ended)} bytes, {'' if ended == plain else 'not '}the disk")
assert ended == plain and begun != plain and len(begun) == len(plain) and clear >= 0
assert not any(begun[i : i + 512] in plain for i in range(0, 65536, 512))
PYTHON
echo "as it was found"
