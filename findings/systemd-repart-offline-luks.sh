#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# systemd-repart 262.1 and cryptsetup 2.8.8 (Debian sid): with --offline=yes and Encrypt=key-file the file system that it makes
# is 16 MiB smaller than the encrypted disk in which it lies: of a partition 32 MiB are lost, not the 16 MiB that the LUKS2
# header takes. Behind the file system the disk reads as noise, all of it stored, so that a copy of the disk is no longer
# sparse. cryptsetup needs twice the size of the header while it encrypts; nothing gives back the other half. The manual says
# only that offline no loop devices are used.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=systemd-repart,cryptsetup-bin,e2fsprogs,fdisk \
    sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' cryptsetup-bin systemd-repart)
echo "$found"
[ "$found" = "cryptsetup-bin 2:2.8.8-1
systemd-repart 262.1-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
printf secret >key
chmod 600 key
mkdir definitions tree
head -c 3M /dev/urandom >tree/file
mib() { # the size in MiB of the ext4 file system in the file "disk"
    dumpe2fs -h disk 2>/dev/null | awk -F: '/^Block count/ { n = $2 } /^Block size/ { print n * $2 / 1048576 }'
}
for encrypt in off key-file; do
    for size in 64 128; do
        rm -f image disk header
        printf '[Partition]\nType=linux-generic\nFormat=ext4\nEncrypt=%s\nCopyFiles=/tmp/tree:/\nSizeMinBytes=%sM\nSizeMaxBytes=%sM\n' \
            "$encrypt" "$size" "$size" >definitions/10.conf
        systemd-repart --offline=yes --empty=create --size=auto --definitions=definitions --key-file=key --dry-run=no image \
            >repart.log 2>&1
        [ "$(sfdisk -l -o sectors -q image | tail -n 1)" -eq $((size * 2048)) ]
        dd if=image of=disk bs=1M skip=1 count="$size" status=none
        encrypted=$size
        if [ "$encrypt" = key-file ]; then
            [ "$(cryptsetup luksDump disk | awk '/offset:/ { print $2; exit }')" = 16777216 ]
            cryptsetup reencrypt -q --decrypt --header header --key-file key --force-offline-reencrypt disk
            encrypted=$((size - 16))
            truncate -s "${encrypted}M" disk
        fi
        e2fsck -fn disk >/dev/null 2>&1
        behind=$(dd if=disk bs=1M skip="$(mib)" status=none | tr -d '\0' | wc -c)
        echo "Encrypt=$encrypt: a partition of $size MiB, a disk of $encrypted MiB, a file system of $(mib) MiB;" \
            "$behind bytes behind it are not 0"
        if [ "$encrypt" = off ]; then
            [ "$(mib) $behind" = "$size 0" ]
        else
            # A random byte is 0 now and then.
            [ "$(mib)" = $((size - 32)) ] && [ "$behind" -gt 16700000 ]
        fi
    done
done
INSIDE
echo "as it was found"
