#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbd-server 3.27.1 (Debian sid) with `copyonwrite = true`: what a client has written it does not get back when it asked for
# structured replies, as libnbd and QEMU do. A read that begins before the written block gives other bytes there, without an
# error; one that begins in it gets a chunk for an offset that lies outside of the request. With simple replies, what was
# written is read. Without `copyonwrite` both are right.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=nbd-server,python3-libnbd sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' nbd-server python3-libnbd)
echo "$found"
[ "$found" = "nbd-server 1:3.27.1-4
python3-libnbd 1.24.4-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
head -c 1M /dev/urandom >disk
cp disk before
for cow in true false; do
    printf '[generic]\nlistenaddr = 127.0.0.1\nport = 10990\n[disk]\nexportname = /tmp/disk\ncopyonwrite = %s\n' "$cow" >conf
    rm -f pid
    nbd-server -C /tmp/conf -p /tmp/pid 2>/dev/null
    for _ in $(seq 50); do [ -s pid ] && break; sleep 0.1; done
    server=$(cat pid)
    trap 'kill "$server" 2>/dev/null || true' EXIT
    COW=$cow python3 <<'PYTHON'
import os
import nbd

before = open("before", "rb").read()
cow = os.environ["COW"] == "true"
for structured in (True, False):
    for start, count in ((0, 16384), (4096, 4096)):
        open("disk", "r+b").write(before)
        handle = nbd.NBD()
        handle.set_request_structured_replies(structured)
        handle.connect_uri("nbd://127.0.0.1:10990/disk")
        handle.pwrite(b"W" * 4096, 4096)
        want = (before[:4096] + b"W" * 4096 + before[8192:])[start : start + count]
        try:
            got = bytes(handle.pread(count, start))
            said = "as written" if got == want else "wrong"
        except nbd.Error as error:
            said = error.string
        print(f"copyonwrite {cow}, structured replies {structured}, {count} bytes at {start}: {said}")
        if not (cow and structured):
            assert said == "as written"
        elif start == 0:
            assert said == "wrong" and got[4096:8192] != b"W" * 4096 and got[:4096] == want[:4096]
        else:
            assert "range of structured reply is out of bounds" in said
PYTHON
    kill "$server"
    for _ in $(seq 50); do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
done
INSIDE
echo "as it was found"
