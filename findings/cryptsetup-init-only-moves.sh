#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# cryptsetup 2.8.8 (Debian sid): of `reencrypt --init-only` the manual says that it begins in the metadata of LUKS2 only. With
# --encrypt --reduce-device-size it has copied the first half of that size to the end of the device already, and put the header
# in its place; with --decrypt it has copied the first segment of the data to where the header was, so that the device is no LUKS2
# device any more and only the exported header tells how to read it. Only a plain reencryption leaves the data alone.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=cryptsetup-bin sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' cryptsetup-bin)
echo "$found"
[ "$found" = "cryptsetup-bin 2:2.8.8-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
printf 'correct horse' >secret
options=(-q --key-file secret --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --force-offline-reencrypt)
changed() { # BEFORE AFTER
    { cmp -l "$1" "$2" || true; } | awk '{ b = int(($1 - 1) / 4096); if (!n || b != last) n++; if (n == 1) first = b; last = b }
        END { printf "%d blocks of 4 KiB are others, from %d to %d", n, first, last }'
}
head -c 48M /dev/urandom >plain
truncate -s 64M plain

cp plain encrypted
cryptsetup reencrypt --encrypt --init-only --type luks2 --reduce-device-size 16M "${options[@]}" encrypted
echo "--encrypt: $(changed plain encrypted)"
cmp -n 8M -i 0:$((56 << 20)) plain encrypted
cmp -n 40M -i $((8 << 20)) plain encrypted
cryptsetup isLuks --type luks2 encrypted

cryptsetup reencrypt --resume-only -q --key-file secret --force-offline-reencrypt encrypted
cp encrypted reencrypted
cryptsetup reencrypt --init-only "${options[@]}" reencrypted
cmp -i $((8 << 20)) encrypted reencrypted
echo "reencryption: the data are as they were"

cp encrypted decrypted
cryptsetup reencrypt --decrypt --init-only -q --header header --key-file secret --force-offline-reencrypt decrypted
echo "--decrypt: $(changed encrypted decrypted)"
if cryptsetup isLuks decrypted; then echo "LUKS still"; exit 1; fi
cmp -n 8M -i $((8 << 20)):0 encrypted decrypted
cmp -i $((8 << 20)) encrypted decrypted
echo "what was at 8 MiB is now at 0 as well, in place of the header; cryptsetup isLuks: no"
INSIDE
echo "as it was found"
