#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbdkit 1.48.1 (Debian sid): the split plugin reads several files as one disk, but a write that does not lie in the first of them
# goes to a wrong place: to the offset in the whole disk, counted from the start of the file that it belongs in. That file grows,
# the client reads the old bytes, and nothing reports an error. Zeroing does the same. In the first file both are right.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=nbdkit,python3-libnbd sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' nbdkit python3-libnbd)
echo "$found"
[ "$found" = "nbdkit 1.48.1-1
python3-libnbd 1.24.4-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
part=262144
for offset in 4096 $((part + 4096)); do
    for file in 1 2 3; do head -c "$part" /dev/urandom >"$file"; done
    cat 1 2 3 >before
    nbdkit -U - split 1 2 3 --run "nbdsh -u \"\$uri\" -c 'h.pwrite(b\"W\" * 8192, $offset)' \
        -c 'open(\"after\", \"wb\").write(h.pread(h.get_size(), 0))'"
    sizes=$(stat -c %s 1 2 3 | xargs)
    cmp -s before after && read=old || read=changed
    python3 - "$offset" "$part" <<'PYTHON'
import sys

offset, part = map(int, sys.argv[1:])
second = open("2", "rb").read()
where = open("1", "rb").read().find(b"W" * 8192), second.find(b"W" * 8192)
print(f"8192 bytes written at {offset}: they are at {where[0]} of the first file, at {where[1]} of the second")
assert where == ((offset, -1) if offset < part else (-1, offset))
PYTHON
    echo "sizes of the files: $sizes; the client then reads the $read bytes"
    if [ "$offset" -lt "$part" ]; then
        [ "$read $sizes" = "changed $part $part $part" ]
    else
        [ "$read $sizes" = "old $part $((offset + 8192)) $part" ]
    fi
done
INSIDE
echo "as it was found"
