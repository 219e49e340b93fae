#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbd-server 3.27.1 and libnbd 1.24.4 (Debian sid): to NBD_OPT_INFO nbd-server answers that an export has 0 bytes, to NBD_OPT_GO its
# size. `nbdinfo --size` and the export-size of `nbdinfo`, `--json` and `--list` are therefore 0, while nbdcopy copies the whole
# disk and nbdinfo itself finds out what it holds.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=nbd-server,libnbd-bin,python3-libnbd sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' libnbd-bin nbd-server)
echo "$found"
[ "$found" = "libnbd-bin 1.24.4-1
nbd-server 1:3.27.1-4" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
head -c 1000448 /dev/urandom >disk
printf '[generic]\nlistenaddr = 127.0.0.1\nport = 10992\nallowlist = true\n[disk]\nexportname = /tmp/disk\n' >conf
nbd-server -C /tmp/conf -p /tmp/pid 2>/dev/null
for _ in $(seq 50); do [ -s pid ] && break; sleep 0.1; done
server=$(cat pid)
trap 'kill "$server" 2>/dev/null || true' EXIT
uri=nbd://127.0.0.1:10992/disk
size=$(nbdinfo --size "$uri")
listed=$(nbdinfo --list "${uri%disk}" | sed -n 's/.*export-size: \([0-9]*\).*/\1/p')
nbdcopy "$uri" copy
cmp disk copy
echo "nbdinfo --size $size, nbdinfo --list $listed, nbdcopy $(stat -c %s copy) bytes"
[ "$size" = 0 ] && [ "$listed" = 0 ]
python3 <<'PYTHON'
import nbd

handle = nbd.NBD()
handle.set_opt_mode(True)
handle.connect_tcp("127.0.0.1", "10992")
handle.set_export_name("disk")
handle.opt_info()
told = handle.get_size()
handle.opt_go()
print(f"NBD_OPT_INFO {told} bytes, NBD_OPT_GO {handle.get_size()} bytes")
assert (told, handle.get_size()) == (0, 1000448)
PYTHON
kill "$server"
INSIDE
echo "as it was found"
