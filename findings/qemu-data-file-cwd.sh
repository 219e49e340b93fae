#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# QEMU 11.1.3 (Debian sid): the name of an external data file in a qcow2 header is taken as it stands: a relative one counts from
# the directory in which the program runs and not, as that of a backing file, from the directory of the image. From elsewhere the
# image is not opened, and where another file of that name lies, that one is read, without an error.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=qemu-utils sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' qemu-utils)
echo "$found"
[ "$found" = "qemu-utils 1:11.1.3+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
mkdir /tmp/images /tmp/elsewhere
cd /tmp/images
head -c 1M /dev/urandom >plain
qemu-img convert -f raw -O qcow2 -o data_file=data plain disk
qemu-img create -q -f qcow2 -b plain -F raw overlay
try() {
    (cd "$1" && qemu-img convert -f qcow2 -O raw "$2" /tmp/read 2>/tmp/said) || { tail -n 1 /tmp/said; return; }
    cmp -s /tmp/read plain && echo right || echo 'other bytes'
}
[ "$(try /tmp/images disk)" = right ]
[ "$(try /tmp/elsewhere /tmp/images/overlay)" = right ]
missing=$(try /tmp/elsewhere /tmp/images/disk)
head -c 1M /dev/urandom >/tmp/elsewhere/data
other=$(try /tmp/elsewhere /tmp/images/disk)
head -c 1M /dev/urandom >/tmp/elsewhere/plain
backing=$(try /tmp/elsewhere /tmp/images/overlay)
echo "data file, from elsewhere: $missing"
echo "data file, from elsewhere, with a file of that name there: $other"
echo "backing file, from elsewhere, with a file of that name there: $backing"
[[ $missing == *"Could not open 'data'"* ]] && [ "$other" = 'other bytes' ] && [ "$backing" = right ]
INSIDE
echo "as it was found"
