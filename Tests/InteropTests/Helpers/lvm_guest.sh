#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# Runs in the virtual machine of scripts/vm: makes disks with logical volumes by the tools of LVM, fills the volumes with
# noise through the kernel's device mapper, and leaves the disks and the hashes of the volumes in /out.
#
# /out/hashes has a line for each volume: the disk, VG/LV, the SHA-256 of what the device mapper reads, and of what
# dm-crypt makes of that when the volume holds LUKS.
set -e
modprobe -a loop dm-mod dm-crypt dm-snapshot dm-mirror dm-raid raid0 raid1 dm-thin-pool
export LVM_SYSTEM_DIR=/tmp/lvm LVM_SUPPRESS_FD_WARNINGS=1
mkdir -p /tmp/lvm /run/lock/lvm
cat > /tmp/lvm/lvm.conf << 'CONF'
devices { use_devicesfile = 0 obtain_device_list_from_udev = 0 }
activation { udev_sync = 0 udev_rules = 0 verify_udev_operations = 0 monitoring = 0 }
backup { backup = 0 archive = 0 }
global { event_activation = 0 thin_check_executable = "" }
CONF

say() { echo "== $*"; "$@" > /tmp/log 2>&1 || { cat /tmp/log; exit 1; }; }
create() { say lvm lvcreate -q -y -Wn -Zn "$@"; }
special() { say lvm lvcreate -q -y "$@"; }
# A device of so many MiB of an image, from so many MiB on.
loop() { losetup -f --show -o "${2}M" --sizelimit "${3}M" "$1"; }
fill() { # DISK VG/LV
    dd if=/dev/urandom of="/dev/$2" bs=64k count=$(($(blockdev --getsize64 "/dev/$2") / 65536)) 2> /dev/null
    echo "$1 $2 $(sha256sum < "/dev/$2" | cut -d ' ' -f 1)" >> /out/hashes
}

# A volume group over two partitions of one disk: all kinds of volumes.
disk=/out/two.raw
truncate -s 100M "$disk"
printf 'label: gpt\nstart=1MiB,size=60MiB,type=lvm\nstart=61MiB,size=36MiB,type=lvm\n' | sfdisk -q "$disk"
first=$(loop "$disk" 1 60)
second=$(loop "$disk" 61 36)
say lvm vgcreate -q -s 256k two "$first" "$second"
create -n linear -L 3M two "$first"
create -n odd-name_1.x -L 1M two "$second"
create -n striped -i 2 -I 64k -L 4M two
create -n fine -i 2 -I 4k -L 2M two
say lvm lvextend -L 5M two/linear "$second"
say lvm lvextend -L 7M two/linear "$first"
say lvm lvextend -i 2 -I 128k -L 8M two/linear
create -n secret -L 8M two
create -n origin -L 1M two "$first"
for volume in linear odd-name_1.x striped fine; do fill two "two/$volume"; done
printf secret | say cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
    --luks2-metadata-size 16k --luks2-keyslots-size 256k /dev/two/secret -
printf secret | cryptsetup open --key-file - /dev/two/secret plain
dd if=/dev/urandom of=/dev/mapper/plain bs=64k count=64 2> /dev/null
echo "two two/secret $(sha256sum < /dev/two/secret | cut -d ' ' -f 1) $(sha256sum < /dev/mapper/plain | cut -d ' ' -f 1)" \
    >> /out/hashes
cryptsetup close plain
special -s -n frozen -L 2M two/origin
fill two two/origin
special -n raid1 --type raid1 -m 1 -L 1M two
special -n raid0 --type raid0 -i 2 -L 1M two
special -n mirror --type mirror -m 1 --corelog -L 1M two
special --type thin-pool -n pool -L 4M two
special -V 8M -n thin --thinpool pool two
lvm lvs -a -o lv_name,segtype,lv_attr,devices two
say lvm vgchange -an two
losetup -d "$first" "$second"

# On a whole disk: small extents, two metadata areas, and changes until a text does not fit behind the ones before and goes on
# at the beginning of the area.
disk=/out/whole.raw
truncate -s 16M "$disk"
first=$(losetup -f --show "$disk")
say lvm pvcreate -q --metadatacopies 2 --metadatasize 32k --dataalignment 4k "$first"
say lvm vgcreate -q -s 4k whole "$first"
create -n data -L 5M whole
create -n more -L 1028k whole
fill whole whole/data
fill whole whole/more
count=0
while
    say lvm lvchange -q --addtag "tag$count" whole/data
    # The place of the text in the area, in 64 bits, and its length.
    # shellcheck disable=SC2046  # words
    set -- $(od -A n -t u4 -j 4136 -N 12 "$disk")
    [ $(($1 + $3)) -le 32768 ]
do
    count=$((count + 1))
    [ $count -lt 60 ] || exit 1
done
say lvm vgchange -an whole
losetup -d "$first"

# As distributions install: a physical volume in a LUKS container in a partition.
disk=/out/inside.raw
truncate -s 40M "$disk"
printf 'label: dos\nstart=1MiB,size=2MiB,type=83\nstart=4MiB,size=35MiB,type=83\n' | sfdisk -q "$disk"
first=$(loop "$disk" 4 35)
printf secret | say cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
    --sector-size 4096 "$first" -
printf secret | cryptsetup open --key-file - "$first" plain
say lvm vgcreate -q debian-vg /dev/mapper/plain
create -n root -L 8M debian-vg
create -n swap_1 -L 4M debian-vg
fill inside debian-vg/root
fill inside debian-vg/swap_1
say lvm vgchange -an debian-vg
cryptsetup close plain
losetup -d "$first"
cat /out/hashes
gzip -1 /out/*.raw
