#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# GRUB 2.14 and cryptsetup 2.8.8 (Debian sid): of a LUKS2 container with ESSIV and sectors of more than 512 bytes GRUB opens the
# keyslot ("Slot "0" opened") and then finds an unknown filesystem: it decrypts each sector but the first with another IV, that
# of the number of the sector, where cryptsetup counts in units of 512 bytes. With plain64 it does shift the number, and
# sectors of 512 bytes are right with both.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=grub-common,cryptsetup-bin,e2fsprogs sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' cryptsetup-bin grub-common)
echo "$found"
[ "$found" = "cryptsetup-bin 2:2.8.8-1
grub-common 2.14-4" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
printf 'correct horse' >secret
mkdir tree
head -c 2M /dev/urandom >tree/file
truncate -s 4M plain
mke2fs -q -F -b 4096 -t ext2 -d tree plain
grub-fstest /tmp/plain cmp /file /tmp/tree/file
for cipher in aes-cbc-essiv:sha256 aes-cbc-plain64; do
    for sector in 512 1024 2048 4096; do
        cp plain disk
        truncate -s +16M disk
        cryptsetup reencrypt -q --encrypt --type luks2 --reduce-device-size 16M --key-file secret --pbkdf pbkdf2 \
            --pbkdf-force-iterations 1000 --cipher "$cipher" --key-size 256 --sector-size "$sector" disk 2>/dev/null
        said=$(echo 'correct horse' | grub-fstest -C /tmp/disk cmp '(crypto0)/file' /tmp/tree/file 2>&1) && read=right || read=wrong
        [[ $said == *'Slot "0" opened'* ]]
        echo "$cipher, sectors of $sector bytes: slot opened, $read"
        case $cipher,$sector in
        *plain64,* | *,512) [ "$read" = right ] ;;
        *) [ "$read" = wrong ] && [[ $said == *'unknown filesystem'* ]] ;;
        esac
        # cryptsetup decrypts it to what it was.
        rm -f header
        cryptsetup reencrypt -q --decrypt --header header --key-file secret --force-offline-reencrypt disk
        cmp -n 4194304 plain disk
    done
done
INSIDE
echo "as it was found"
