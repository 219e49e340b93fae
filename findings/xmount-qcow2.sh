#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# xmount 1.3.1 (Debian sid): its own reader of qcow2 images ignores what it does not know. Of an overlay it gives zeros where the
# backing file has data, of an image with an external data file or with extended L2 entries other bytes, each without an error and
# with the right size. Plain and compressed images are right.
#
# Needs root, FUSE and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=xmount,fuse3,qemu-utils sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' qemu-utils xmount)
echo "$found"
[ "$found" = "qemu-utils 1:11.1.3+ds-1
xmount 1.3.1+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
mkdir mounted
trap 'umount mounted 2>/dev/null || true' EXIT
head -c 1M /dev/urandom >plain
truncate -s 4M plain
head -c 3M /dev/urandom >>plain
qemu-img convert -f raw -O qcow2 plain simple
qemu-img convert -f raw -c -O qcow2 plain compressed
qemu-img convert -f raw -O qcow2 -o data_file=/tmp/data plain data-file
qemu-img convert -f raw -O qcow2 -o extended_l2=on plain extended-l2
qemu-img create -q -f qcow2 -b plain -F raw overlay
qemu-io -c 'write -q -P 7 2M 64k' overlay
for image in simple compressed overlay data-file extended-l2; do
    qemu-img convert -f qcow2 -O raw "$image" want
    xmount --in qcow2 "$image" mounted 2>said || { cat said; exit 1; }
    cat "mounted/$image.dd" >got
    umount mounted
    cmp -s want got && seen=right || seen=wrong
    stored=$(tr -d '\0' <got | wc -c)
    echo "$image: $(stat -c %s got) bytes, $seen; $stored of them not zero"
    [ "$(stat -c %s got)" = "$(stat -c %s want)" ]
    case $image in
    simple | compressed) [ "$seen" = right ] ;;
    overlay) [ "$seen $stored" = "wrong 65536" ] ;;
    *) [ "$seen" = wrong ] ;;
    esac
done
INSIDE
echo "as it was found"
