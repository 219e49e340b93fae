#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# xmount 1.3.1 and QEMU 11.1.3 (Debian sid): each VDI image that xmount emulates is refused by QEMU ("unaligned data offset"):
# xmount lets the data begin right behind the table of blocks, not at a multiple of 512 bytes. 7-Zip reads the same image. The VHD
# image that xmount emulates of the same disk, QEMU reads too.
#
# Needs root, FUSE and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=xmount,fuse3,qemu-utils,7zip sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' 7zip qemu-utils xmount)
echo "$found"
[ "$found" = "7zip 26.05+dfsg-1
qemu-utils 1:11.1.3+ds-1
xmount 1.3.1+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
mkdir mounted
trap 'umount mounted 2>/dev/null || true' EXIT
for size in 1M 3M 100M; do
    head -c "$size" /dev/urandom >disk
    for kind in vdi vhd; do
        xmount --in raw disk --out "$kind" mounted 2>said || { cat said; exit 1; }
        cat "mounted/disk.$kind" >image
        umount mounted
        if [ "$kind" = vdi ]; then
            7z e -so -tvdi image 2>/dev/null | cmp - disk
            if said=$(qemu-img info -f vdi image 2>&1); then echo "opened after all"; exit 1; fi
            echo "$size, vdi: 7-Zip reads it; $said"
            [[ $said == *'unaligned data offset'* ]]
        else
            qemu-img convert -f vpc -O raw image raw
            cmp -n "$(stat -c %s disk)" disk raw
            echo "$size, vhd: QEMU reads it"
        fi
    done
done
INSIDE
echo "as it was found"
