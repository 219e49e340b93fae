#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbdkit 1.48.1 (Debian sid): the xor filter passes on the holes of the disk below as holes of zeros, though it reads them as
# the repeated value. So nbdcopy and qemu-img convert make a disk that is not the one which the same server lets a client read,
# without an error: zeros where the holes are. With --filter=noextents in front, the copies are right. The manual says that the
# filter does not support sparse plugins, but the one that it shows in its examples, file, is one, and nothing refuses it.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=nbdkit,libnbd-bin,python3-libnbd,qemu-utils sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' libnbd-bin nbdkit qemu-utils)
echo "$found"
[ "$found" = "libnbd-bin 1.24.4-1
nbdkit 1.48.1-1
qemu-utils 1:11.1.3+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
head -c 1M /dev/urandom >disk
truncate -s 2M disk
for extents in passed none; do
    for xor in "xor=0xdeadbeef xorlen=4" xor=rand:1984; do
        filters=(--filter=xor)
        [ "$extents" = passed ] || filters=(--filter=noextents "${filters[@]}")
        # shellcheck disable=SC2016,SC2086
        nbdkit -U - -r "${filters[@]}" file disk $xor --run '
            nbdinfo --map "$uri" >map
            nbdcopy "$uri" copied
            qemu-img convert -f raw -O raw "$uri" converted
            nbdsh -u "$uri" -c "open(\"read\", \"wb\").write(h.pread(2 << 20, 0))"'
        cmp copied converted
        cmp -n 1M copied read
        second() { tail -c 1M "$1" | tr -d '\0' | wc -c; }
        holes=$(grep -c 'hole,zero' map || true)
        echo "extents $extents, $xor: $holes hole of zeros; of its bytes are not 0: read $(second read), copied $(second copied)"
        # A random byte is 0 now and then.
        [ "$(second read)" -gt 1040000 ]
        if [ "$extents" = passed ]; then
            [ "$holes" = 1 ] && [ "$(second copied)" = 0 ]
        else
            [ "$holes" = 0 ] && cmp copied read
        fi
    done
done
INSIDE
echo "as it was found"
