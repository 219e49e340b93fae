#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbdkit 1.48.1 (Debian sid): the qcow2dec filter refuses a qcow2 image whose virtual size is not larger than the offset of the
# L1 table in the file ("L1 table outside the file"), though the table lies well inside of the file: with clusters of 64 KiB each
# disk of up to 192 KiB, with clusters of 2 MiB each of up to 6 MiB, however full. qemu-img checks and reads them.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=nbdkit,libnbd-bin,qemu-utils sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
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
for sizes in '64K 192K 193K' '2M 6M 7M'; do
    read -r cluster refused served <<<"$sizes"
    for size in "$refused" "$served"; do
        head -c "$size" /dev/urandom >plain
        qemu-img convert -f raw -O qcow2 -o "cluster_size=$cluster" plain disk
        qemu-img check -q disk
        qemu-img compare -q -f raw -F qcow2 plain disk
        rm -f copy
        # shellcheck disable=SC2016
        said=$(nbdkit -r -U - --filter=qcow2dec file disk --run 'nbdcopy "$uri" copy' 2>&1) || true
        if [ "$size" = "$refused" ]; then
            [[ $said == *'L1 table outside the file'* ]]
            echo "clusters of $cluster, disk of $size: refused, the file has $(stat -c %s disk) bytes"
        else
            cmp plain copy
            echo "clusters of $cluster, disk of $size: served rightly"
        fi
    done
done
INSIDE
echo "as it was found"
