#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbdkit 1.48.1 (Debian sid) with --filter=cache, in its default mode: what a client has written but not yet flushed is read back,
# but base:allocation still calls it a hole of zeros, as the plugin below has it. nbdcopy from the same server therefore copies
# zeros in its place, without an error. After a flush both are right; with cache=unsafe they never are, and with
# cache=writethrough always.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=nbdkit,libnbd-bin,python3-libnbd sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
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
cat >client.py <<'PYTHON'
import os
import subprocess
import sys
import nbd

mode, uri = sys.argv[1:]
written = os.urandom(1 << 20)
handle = nbd.NBD()
handle.add_meta_context("base:allocation")
handle.connect_uri(uri)
handle.pwrite(written, 2 << 20)
seen = []
for moment in ("before", "after"):
    extents = []
    handle.block_status(1 << 20, 2 << 20, lambda context, offset, entries, error: extents.extend(entries))
    subprocess.run(["nbdcopy", uri, "copy"], check=True)
    copied = open("copy", "rb").read()[2 << 20 : 3 << 20]
    assert bytes(handle.pread(1 << 20, 2 << 20)) == written
    kind = "data" if extents[1] == 0 else "hole, zero"
    assert copied in (written, bytes(1 << 20))
    seen.append((kind, copied == written))
    print(f"{mode}, {moment} a flush: read as written, {kind}, nbdcopy gave {'it' if copied == written else 'zeros'}")
    handle.flush()
lost, right = ("hole, zero", False), ("data", True)
assert seen == {"writeback": [lost, right], "unsafe": [lost, lost], "writethrough": [right, right]}[mode]
PYTHON
for mode in writeback unsafe writethrough; do
    nbdkit -U - --filter=cache memory 8M "cache=$mode" --run "python3 client.py $mode \"\$uri\""
done
INSIDE
echo "as it was found"
