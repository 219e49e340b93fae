#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# QEMU 11.1.3 (Debian sid), and 7.2 as well: a new encrypted qcow2 image reads as zeros. With any preallocation but "off" it
# reads as noise: the clusters are there, hold zeros, and are decrypted. The same holds for what `qemu-img resize
# --preallocation` adds to an encrypted image; without the option it adds zeros. Of an image that is not encrypted all of this
# reads as zeros. So a copy that leaves out zeros because its destination is new (nbdcopy --destination-is-zero) leaves noise
# there, without an error.
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
printf secret >key
secret=(--object secret,id=s,file=key,format=raw)
luks=encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10
image=driver=qcow2,encrypt.key-secret=s,file.filename
truncate -s 2M source
head -c 2M /dev/urandom >>source
not_zero() { # HALF: how many of the 2 MiB bytes of that half of the file "read" are not 0
    dd if=read bs=2M skip="$1" count=1 status=none | tr -d '\0' | wc -c
}
for allocation in off metadata falloc full; do
    rm -f new grown plain
    qemu-img create -q "${secret[@]}" -f qcow2 -o "$luks,preallocation=$allocation" new 4M
    qemu-img convert "${secret[@]}" --image-opts "$image=new" -O raw read
    new=$(not_zero 0)

    qemu-img create -q "${secret[@]}" -f qcow2 -o "$luks" grown 2M
    qemu-img resize -q "${secret[@]}" --image-opts --preallocation="$allocation" "$image=grown" 4M
    qemu-img convert "${secret[@]}" --image-opts "$image=grown" -O raw read
    grown=$(not_zero 1)
    [ "$(not_zero 0)" = 0 ]

    qemu-img create -q -f qcow2 -o "preallocation=$allocation" plain 2M
    qemu-img resize -q --preallocation="$allocation" plain 4M
    qemu-img convert -O raw plain read
    plain=$(($(not_zero 0) + $(not_zero 1)))

    rm -f socket
    qemu-nbd "${secret[@]}" -t --fork -k /tmp/socket --pid-file=pid --image-opts "$image=new"
    nbdcopy --destination-is-zero source 'nbd+unix:///?socket=/tmp/socket'
    nbdcopy 'nbd+unix:///?socket=/tmp/socket' read
    kill "$(cat pid)"
    cmp -s source read && copy=right || copy=wrong

    echo "$allocation: not zero are of the new image $new bytes, of what was added $grown, without encryption $plain;" \
        "the copy is $copy"
    [ "$plain" = 0 ]
    if [ "$allocation" = off ]; then
        [ "$new $grown $copy" = "0 0 right" ]
    else
        [ "$new" -gt 2080000 ] && [ "$grown" -gt 2080000 ] && [ "$copy" = wrong ]
    fi
done
INSIDE
echo "as it was found"
