#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# QEMU 11.1.3 and cryptsetup 2.8.8 (Debian sid): the detached LUKS header that `qemu-img create -f luks -o detached-header=true`
# makes cannot be looked at by `qemu-img info`: "LUKS payload is overlapping with the header", as its payload offset is 0, which
# is how QEMU itself marks it. cryptsetup dumps it and takes the secret. QEMU does read it as the `header` of another file.
# `qemu-img measure` does not know the option.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=qemu-utils,cryptsetup-bin sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' cryptsetup-bin qemu-utils)
echo "$found"
[ "$found" = "cryptsetup-bin 2:2.8.8-1
qemu-utils 1:11.1.3+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
printf secret >key
secret=(--object secret,id=s,file=key,format=raw)
qemu-img create -q "${secret[@]}" -f luks -o key-secret=s,iter-time=10,detached-header=true header
truncate -s 4M payload

for name in header driver=luks,key-secret=s,file.filename=header; do
    image=("$name")
    [ "$name" = header ] || image=("${secret[@]}" --image-opts "$name")
    if said=$(qemu-img info "${image[@]}" 2>&1); then echo "info works"; exit 1; fi
    echo "qemu-img info $name: ${said##*: }"
    [[ $said == *"LUKS payload is overlapping with the header" ]]
done
cryptsetup luksDump header | grep '^Payload offset:'
cryptsetup luksDump header | grep -q '^Payload offset:[[:space:]]*0$'
cryptsetup open --test-passphrase --key-file key header
echo "cryptsetup: the secret opens it"
both=driver=luks,key-secret=s,file.filename=payload,header.driver=file,header.filename=header
qemu-img info "${secret[@]}" --image-opts "$both" |
    grep -E '^virtual size|detached'
if said=$(qemu-img measure "${secret[@]}" -O luks -o key-secret=s,detached-header=true --size 4M 2>&1); then exit 1; fi
echo "measure: $said"
[[ $said == *"Parameter 'detached-header' is unexpected"* ]]
INSIDE
echo "as it was found"
