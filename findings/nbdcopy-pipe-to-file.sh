#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbdcopy 1.24.4 (Debian sid): from a pipe it copies to an NBD server, to another pipe or to null:, but not to a local file:
# "truncate: Invalid argument", and a file that was there is empty then. It wants to give the file the size of the source, which
# a pipe has not. A file as standard input is copied.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=nbdkit,libnbd-bin sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' libnbd-bin nbdkit)
echo "$found"
[ "$found" = "libnbd-bin 1.24.4-1
nbdkit 1.48.1-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
head -c 1M /dev/urandom >disk
cat disk | nbdcopy - - | cmp - disk
truncate -s 1M served
cat disk | nbdcopy - [ nbdkit file served ]
cmp disk served
nbdcopy - copied <disk
cmp disk copied
if said=$(cat disk | nbdcopy - copied 2>&1); then echo "copied after all"; exit 1; fi
echo "pipe to pipe, pipe to server, file to file: copied; pipe to file: $said, then it has $(stat -c %s copied) bytes"
[[ $said == *'truncate: Invalid argument'* ]] && [ ! -s copied ]
INSIDE
echo "as it was found"
