#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# dissect.volume 3.18 reads a striped logical volume as if its stripes lay one after the other: it takes the size of a stripe for
# one in extents. What follows the first stripe is from the wrong place, without an error, though the size is right; a linear
# volume of the same group is read rightly. libvslvm-python 20260901 opens no group that has a striped volume, so that its
# linear volumes cannot be read either.
#
# Needs root, loop devices, lvm2 (any version; device-mapper is not needed), and python3 with venv and a compiler for libvslvm.
set -euo pipefail
work=$(mktemp -d)
loops=()
trap 'for loop in "${loops[@]}"; do losetup -d "$loop"; done; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q dissect.volume==3.18 libvslvm-python==20260901
truncate -s 32M first second
for disk in first second; do loops+=("$(losetup -f --show "$disk")"); done
filter=$(printf '"a|^%s$|", ' "${loops[@]}")
config="devices { use_devicesfile=0 filter=[ $filter \"r|.*|\" ] } backup { backup=0 archive=0 }"
lvm_() {
    "$1" --driverloaded n --nohints --quiet --quiet --config "$config" "${@:2}" 2>/dev/null
}
lvm_ pvcreate "${loops[@]}"
lvm_ vgcreate -s 1M finding "${loops[@]}"
lvm_ lvcreate -an -Zn -Wn -l 4 -n linear finding "${loops[0]}"
cp first linear.first
lvm_ lvcreate -an -Zn -Wn -l 8 -i 2 -I 64k -n striped finding
for loop in "${loops[@]}"; do losetup -d "$loop"; done
loops=()
venv/bin/python - <<'PYTHON'
import os
import pyvslvm
from dissect.volume.lvm import LVM2

MIB = 1 << 20
STRIPE = 65536
disks = []
for name in ("first", "second"):
    with open(name, "r+b") as file:
        file.seek(MIB)  # where the extents begin
        file.write(os.urandom(30 * MIB))
    disks.append(open(name, "rb").read())
linear = disks[0][MIB : 5 * MIB]
parts = disks[0][5 * MIB : 9 * MIB], disks[1][MIB : 5 * MIB]
striped = b"".join(part[i : i + STRIPE] for i in range(0, 4 * MIB, STRIPE) for part in parts)

group = LVM2([open("first", "rb"), open("second", "rb")]).vg
got = {volume.name: volume.open().read(8 * MIB) for volume in group.lv}
print(f"dissect.volume: linear {'right' if got['linear'] == linear else 'wrong'}, striped {len(got['striped'])} bytes,",
      f"{'right' if got['striped'] == striped else 'wrong'}; as if one after the other: {got['striped'][: 4 * MIB] == parts[0]}")
assert got["linear"] == linear and len(got["striped"]) == len(striped)
assert got["striped"][:STRIPE] == striped[:STRIPE] and got["striped"][: 4 * MIB] == parts[0]

pyvslvm.handle().open("linear.first")
print("libvslvm: opens the group while it has a linear volume only")
try:
    pyvslvm.handle().open("first")
except OSError as error:
    print("libvslvm, with the striped one:", str(error).split(".")[0])
    assert "stripes" in str(error)
else:
    raise SystemExit("opened after all")
PYTHON
echo "as it was found"
