#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# e2fsprogs 1.47.4 and QEMU 11.1.3 (Debian sid): `e2image -r` reads qcow2 images, QEMU's too, but of an overlay it writes zeros
# where the backing file has data, without an error and with the right size: the copy is no file system any more. An image of
# version 3, QEMU's default, it takes for a raw file ("Couldn't find valid filesystem superblock."). What `e2image -Qa` itself
# writes QEMU reads rightly, but `qemu-img check` finds leaked clusters in every such image (status 3).
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=qemu-utils,e2fsprogs sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' e2fsprogs qemu-utils)
echo "$found"
[ "$found" = "e2fsprogs 1.47.4-1+b2
qemu-utils 1:11.1.3+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
mkdir tree
head -c 3M /dev/urandom >tree/file
truncate -s 32M plain
mke2fs -q -F -t ext4 -b 4096 -d tree plain
e2fsck -fn plain >/dev/null 2>&1

qemu-img convert -f raw -O qcow2 -o compat=0.10 plain two
e2image -r two out 2>/dev/null
cmp plain out
echo "version 2: right"

qemu-img create -q -f qcow2 -o compat=0.10 -b plain -F raw overlay
qemu-io -c 'write -P 7 30M 64k' overlay >/dev/null
qemu-img convert -O raw overlay disk
e2fsck -fn disk >/dev/null 2>&1
rm out
e2image -r overlay out 2>/dev/null
[ "$(stat -c %s out)" = 33554432 ]
[ "$(tr -d '\0' <out | wc -c)" = 65536 ]
cmp -s -i 30M -n 64K disk out
checked=0
e2fsck -fn out >/dev/null 2>&1 || checked=$?
echo "an overlay of version 2: status 0, but nothing of the backing file; e2fsck: $checked"
[ "$checked" = 8 ]

qemu-img convert -f raw -O qcow2 plain three
rm out
if said=$(e2image -r three out 2>&1); then echo "version 3 is read"; exit 1; fi
echo "version 3: ${said##*$'\n'}"
[[ $said == *"Couldn't find valid filesystem superblock."* ]]

e2image -Qa plain made 2>/dev/null
qemu-img convert -O raw made out
cmp plain out
checked=0
said=$(qemu-img check made 2>&1) || checked=$?
echo "made by e2image -Qa: right; check: status $checked, $(grep -c '^Leaked cluster' <<<"$said") leaked clusters"
[ "$checked" = 3 ]
INSIDE
echo "as it was found"
