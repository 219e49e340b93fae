#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbd-server 3.27.1 (Debian sid) with `splice = true`: a client that asked for structured replies, as libnbd and QEMU do, cannot
# read: each read fails in libnbd with EPROTO. With simple replies the same export is read rightly, and without `splice` by both.
# So the option of the manual works only for clients that do not negotiate what the server offers them itself.
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
for splice in true false; do
    printf '[generic]\nlistenaddr = 127.0.0.1\nport = 10991\n[disk]\nexportname = /tmp/disk\nsplice = %s\n' "$splice" >conf
    rm -f pid
    nbd-server -C /tmp/conf -p /tmp/pid 2>/dev/null
    for _ in $(seq 50); do [ -s pid ] && break; sleep 0.1; done
    server=$(cat pid)
    trap 'kill "$server" 2>/dev/null || true' EXIT
    SPLICE=$splice python3 <<'PYTHON'
import os
import nbd

disk = open("disk", "rb").read()
splice = os.environ["SPLICE"] == "true"
for structured in (True, False):
    for start, count in ((0, 512), (4096, 4096), (100, 1), (0, len(disk))):
        handle = nbd.NBD()
        handle.set_request_structured_replies(structured)
        handle.connect_uri("nbd://127.0.0.1:10991/disk")
        assert handle.get_structured_replies_negotiated() == structured
        try:
            said = "right" if bytes(handle.pread(count, start)) == disk[start : start + count] else "wrong"
        except nbd.Error as error:
            said = f"{error.string} ({error.errno})"
        print(f"splice {splice}, structured replies {structured}, {count} bytes at {start}: {said}")
        assert ("EPROTO" in said) if splice and structured else said == "right"
PYTHON
    kill "$server"
    for _ in $(seq 50); do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
done
INSIDE
echo "as it was found"
