#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbdkit 1.48.1 (Debian sid), and 1.32.5 of Debian 12: the fua filter refuses fuamode=none (newer: fua-mode; "unknown fua-mode
# 'none'"), which its manual and its help list as a value, and call the default. All the others are taken. Only who leaves the
# parameter out gets what it stands for: an export without FUA, on a plugin that has it. A script that sets the parameter for
# each mode in turn, to see how a client does without FUA, therefore has no server for that one.
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
# can_fua [MODE]: what a client is told of FUA.
can_fua() {
    # shellcheck disable=SC2016
    nbdkit -U - --filter=fua memory 1M "$@" --run 'nbdinfo --no-content --json "$uri"' | sed -n 's/.*"can_fua": \([a-z]*\).*/\1/p'
}
help=$(nbdkit --filter=fua memory --help)
echo "the help has: $(grep -o "'none' (default)" <<<"$help")"
echo "without the parameter: FUA $(can_fua)"
[ "$(can_fua)" = false ]
for mode in emulate native force pass discard; do
    echo "fuamode=$mode: FUA $(can_fua "fuamode=$mode")"
    [ "$(can_fua "fuamode=$mode")" = true ]
done
if said=$(can_fua fuamode=none 2>&1); then
    [[ $said == *unknown* ]] || { echo "fuamode=none is taken: FUA $said"; exit 1; }
fi
echo "fuamode=none: $said"
[[ $said == *"unknown fua-mode 'none'"* ]]
INSIDE
echo "as it was found"
