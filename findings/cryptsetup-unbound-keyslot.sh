#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# cryptsetup 2.8.8 (Debian sid): `luksAddKey --unbound --new-key-slot 5` puts the new key into the first free keyslot instead
# and ends with status 0, though its manual says of --new-key-slot that it selects the keyslot of the new key, and lists it
# beside --unbound. Only the older --key-slot selects it there, and does so when both are given. Without --unbound,
# --new-key-slot is heeded. A script that later kills the keyslot whose number it gave kills another one, or none.
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
printf first >old
printf second >new
quick=(--key-file old --pbkdf pbkdf2 --pbkdf-force-iterations 1000)
truncate -s 32M disk
cryptsetup luksFormat -q "${quick[@]}" disk
number() { # OPTIONS: the number of the keyslot that luksAddKey with them makes
    cp disk added
    cryptsetup luksAddKey -q "${quick[@]}" "$@" added new
    cryptsetup luksDump added | sed -n 's/^  \([0-9]*\): luks2.*/\1/p' | grep -vx 0
}
expect() { # NUMBER OPTIONS
    wanted=$1
    shift
    got=$(number "$@")
    echo "luksAddKey $*: keyslot $got"
    [ "$got" = "$wanted" ]
}
expect 5 --new-key-slot 5
expect 1 --unbound --key-size 256 --new-key-slot 5
expect 5 --unbound --key-size 256 --key-slot 5
expect 6 --unbound --key-size 256 --key-slot 6 --new-key-slot 5
INSIDE
echo "as it was found"
