#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# QEMU 11.1.3 (Debian sid), and 7.2 as well: a snapshot inside of a qcow2 image keeps the size that the disk had, and
# `qemu-img snapshot -a` brings it back with it. But `qemu-img convert -l` and `qemu-nbd -l` give the snapshot the size that the
# disk has now: once the disk was shrunk the end of the snapshot is left out, without an error; once it was grown, zeros follow.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=qemu-utils,libnbd-bin sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' libnbd-bin qemu-utils)
echo "$found"
[ "$found" = "libnbd-bin 1.24.4-1
qemu-utils 1:11.1.3+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
for now in 2M 12M; do
    head -c 8M /dev/urandom >before
    qemu-img convert -f raw -O qcow2 before disk
    qemu-img snapshot -c then disk
    qemu-img resize -q --shrink disk "$now"
    qemu-img check -q disk
    qemu-img convert -l then -O raw disk extracted
    rm -f socket
    qemu-nbd -r --fork -k /tmp/socket --pid-file=pid -l snapshot.name=then disk
    served=$(nbdinfo --size 'nbd+unix:///?socket=/tmp/socket')
    kill "$(cat pid)"
    cp disk applied
    qemu-img snapshot -a then applied
    qemu-img convert -O raw applied restored
    cmp before restored
    echo "8 MiB, now $now: convert -l gives $(stat -c %s extracted) bytes, qemu-nbd -l $served, snapshot -a $(stat -c %s restored)"
    bytes=$(numfmt --from=iec "$now")
    [ "$(stat -c %s extracted)" = "$bytes" ] && [ "$served" = "$bytes" ]
    cmp -n $((bytes < 8388608 ? bytes : 8388608)) before extracted
done
INSIDE
echo "as it was found"
