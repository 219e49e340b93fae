#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbd-server 3.27.1 (Debian sid): nbd-trplay does not replay the log (`transactionlog`, `datalog`) that nbd-server itself kept of a
# client with structured replies, as libnbd and QEMU are: "Unknown transaction type 668e33ef, replay impossible.", and what was
# written is missing. nbd-trdump of the same package prints that log. That of the same client with simple replies is replayed.
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
head -c 1M /dev/urandom >before
printf '%s\n' '[generic]' 'listenaddr = 127.0.0.1' 'port = 10994' '[disk]' 'exportname = /tmp/disk' \
    'transactionlog = /tmp/log' 'datalog = true' >conf
for structured in True False; do
    cp before disk
    rm -f pid log
    nbd-server -C /tmp/conf -p /tmp/pid 2>/dev/null
    for _ in $(seq 50); do [ -s pid ] && break; sleep 0.1; done
    server=$(cat pid)
    trap 'kill "$server" 2>/dev/null || true' EXIT
    nbdsh -c "h.set_request_structured_replies($structured)" -c 'h.connect_uri("nbd://127.0.0.1:10994/disk")' \
        -c 'h.pread(4096, 0)' -c 'h.pwrite(b"W" * 65536, 8192)' -c 'h.pread(4096, 8192)' -c 'h.pwrite(b"V" * 4096, 16384)' \
        -c 'h.shutdown()'
    kill "$server"
    for _ in $(seq 50); do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
    nbd-trdump <log >dumped 2>&1
    writes=$(grep -c NBD_CMD_WRITE dumped || true)
    cp before replayed
    said=$(nbd-trplay -i /tmp/replayed -l /tmp/log 2>&1) || true
    cmp -s disk replayed && same=yes || same=no
    echo "structured replies $structured: nbd-trdump shows $writes writes; replayed: $same"
    if cmp -s before disk; then exit 1; fi
    if [ "$structured" = True ]; then
        [ "$same" = no ] && [[ $said == *'Unknown transaction type 668e33ef'* ]]
    else
        [ "$same" = yes ]
    fi
done
INSIDE
echo "as it was found"
