// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// LUKS containers on block devices, compared with dm-crypt on the same device; `make test-vm` runs this.
@Suite(.fewAtATime)
struct VirtualMachineBlockDeviceTests {
    @Test func `a block device is read by nbd-client as dm-crypt reads it, and a detached header works with it`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory)
        let share = directory.file("share")
        try FileManager.default.createDirectory(atPath: share, withIntermediateDirectories: true)
        for type in ["luks1", "luks2"] {
            let path = try await maker.format(type: type)
            try FileManager.default.moveItem(atPath: path, toPath: "\(share)/\(type)")
        }
        try directory.write("share/passphrase", text: "correct horse")
        let vm = "\(Program.root)/scripts/vm"
        try await Tool.succeed(vm, ["bundle", share, try Program.path])
        let guest = try directory.write("guest.sh", text: Self.guestScript)
        let outcome = try await Tool.run(vm, ["run", "--share", share, guest], seconds: 960)
        #expect(outcome.code == 0, "\(outcome.errors)\(outcome.output)")
        for line in [
            "luks1: the same", "luks2: the same", "detached: the same", "in use: refused with 66", "kept out: yes",
            "alone: yes",
        ] {
            #expect(outcome.output.contains(line), "\(outcome.output)")
        }
    }

    private static let guestScript = """
        set -e
        modprobe -a nbd loop dm-mod dm-crypt
        export TMPDIR=/tmp
        compare='nbd-client -unix "$unixsocket" /dev/nbd0 -readonly -b 512 >/dev/null 2>&1
            cmp /dev/nbd0 /dev/mapper/plain && echo "$label: the same"; nbd-client -d /dev/nbd0 >/dev/null 2>&1'
        for label in luks1 luks2; do
            export label
            cp /in/$label /tmp/$label
            device=$(losetup -f)
            losetup $device /tmp/$label
            cryptsetup open --readonly --key-file /in/passphrase $device plain
            nbdecrypt serve $device --passphrase-file /in/passphrase --run "$compare"
            cryptsetup close plain
        done
        export label=detached
        cryptsetup luksHeaderBackup $device --header-backup-file /tmp/header
        cryptsetup open --readonly --header /tmp/header --key-file /in/passphrase $device plain
        nbdecrypt serve $device --header /tmp/header --passphrase-file /in/passphrase --run "$compare"
        # The kernel has the device for dm-crypt, and then the server has it for itself.
        status=0
        nbdecrypt serve -f raw $device --writable --run true 2> /tmp/message || status=$?
        grep -q 'the block device is in use' /tmp/message && echo "in use: refused with $status"
        cryptsetup close plain
        export device
        nbdecrypt serve -f raw $device --writable --run '
            cryptsetup open --key-file /in/passphrase $device plain 2>/dev/null || echo "kept out: yes"'
        nbdecrypt serve -f raw $device --writable --run 'echo "alone: yes"'
        """
}
