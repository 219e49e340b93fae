#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# imago 0.2.2 (Rust, Debian sid) opens a qcow2 image with AES or LUKS inside without any secret, for reading and for writing. It
# gives what is stored as if it were the disk, and stores what it is told to as it is: QEMU then reads noise there. Neither reports
# an error, and `qemu-img check` finds none. It refuses features that it does not know, but does not look at crypt_method.
#
# Needs root and debootstrap, and minutes for cargo.
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
chroot "$root" sh -c 'apt-get -o Acquire::Check-Valid-Until=false update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
    --no-install-recommends cargo librust-imago-dev gcc libc6-dev' >"$root/tmp/apt.log" 2>&1 || { tail -n 3 "$root/tmp/apt.log"; exit 2; }
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' librust-imago-dev qemu-utils)
echo "$found"
[ "$found" = "librust-imago-dev 0.2.2-2
qemu-utils 1:11.1.3+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

mkdir -p "$root/tmp/probe/src" "$root/tmp/probe/.cargo"
cat >"$root/tmp/probe/Cargo.toml" <<'CARGO'
[package]
name = "probe"
version = "0.1.0"
edition = "2021"
[dependencies]
imago = { version = "=0.2.2", features = ["sync-wrappers"] }
CARGO
cat >"$root/tmp/probe/.cargo/config.toml" <<'CARGO'
[source.crates-io]
replace-with = "debian"
[source.debian]
directory = "/usr/share/cargo/registry"
CARGO
cat >"$root/tmp/probe/src/main.rs" <<'RUST'
use imago::{file::File, qcow2::Qcow2, FormatDriverBuilder, PermissiveImplicitOpenGate, SyncFormatAccess};

// probe IMAGE COPY: copies what the disk is said to hold, then writes 64 KiB of "W" at 1 MiB.
fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let image = Qcow2::<File>::builder_path(&arguments[1]).write(true).open_sync(PermissiveImplicitOpenGate::default())?;
    let disk = SyncFormatAccess::new(image)?;
    let mut whole = vec![0u8; disk.size() as usize];
    disk.read(&mut whole[..], 0)?;
    std::fs::write(&arguments[2], &whole)?;
    disk.write(&[b'W'; 65536][..], 1 << 20)?;
    disk.flush()
}
RUST
chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
(cd probe && CARGO_HOME=/tmp/cargo cargo build -q --offline)
head -c 4M /dev/urandom >plain
head -c 65536 /dev/zero | tr '\0' W >written
printf 'correct horse' >secret
secret=(--object 'secret,id=s,file=secret')
for format in none aes luks; do
    options=() opened=driver=qcow2,file.filename=disk
    if [ "$format" != none ]; then
        options=(-o "encrypt.format=$format,encrypt.key-secret=s")
        opened+=,encrypt.key-secret=s
    fi
    qemu-img convert -f raw -O qcow2 "${secret[@]}" "${options[@]}" plain disk
    probe/target/debug/probe disk copy
    cmp -s plain copy && reads=right || reads=wrong
    qemu-img check -q "${secret[@]}" --image-opts "$opened"
    qemu-img convert "${secret[@]}" --image-opts "$opened" -O raw after
    dd if=after bs=64K skip=16 count=1 status=none | cmp -s - written && writes=right || writes=wrong
    dd if=after bs=64K skip=17 status=none | cmp - <(dd if=plain bs=64K skip=17 status=none)
    grep -q -F "$(head -c 4096 written)" disk && clear=yes || clear=no
    echo "encryption $format: what imago reads is $reads; of what it wrote QEMU reads the $writes; in the clear in the file: $clear"
    if [ "$format" = none ]; then [ "$reads $writes" = "right right" ]; else [ "$reads $writes $clear" = "wrong wrong yes" ]; fi
done
INSIDE
echo "as it was found"
