// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Addresses that few machines have, used in one that has them; `make test-vm` runs this.
@Suite(.fewAtATime)
struct VirtualMachineVsockTests {
    @Test
    func `libnbd and QEMU read over vsock with the printed address, with and without TLS, and over IPv6 with a zone`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let share = directory.file("share")
        try FileManager.default.createDirectory(atPath: share, withIntermediateDirectories: true)
        try FileManager.default.moveItem(atPath: try await disk.plain(), toPath: "\(share)/image.qcow2")
        try FileManager.default.moveItem(atPath: try disk.raw(), toPath: "\(share)/disk.raw")
        let vm = "\(Program.root)/scripts/vm"
        let tools = try await Tool.shell("type -P nbdcopy qemu-img").split(separator: "\n").map(String.init)
        try await Tool.succeed(vm, ["bundle", share, try Program.path] + tools)
        let guest = try directory.write("guest.sh", text: Self.guestScript)
        let outcome = try await Tool.run(vm, ["run", "--share", share, guest], seconds: 960)
        #expect(outcome.code == 0, "\(outcome.errors)\(outcome.output)")
        for line in [
            "vsock: libnbd the same", "vsock: QEMU the same", "TLS: libnbd the same", "TLS: QEMU the same",
            "nbd+vsock://2:", "IPv6: libnbd the same",
            "IPv6: QEMU the same",
        ] {
            #expect(outcome.output.contains(line), "\(outcome.output)")
        }
        #expect(outcome.output.contains(/(?m)^nbd\+vsock:\/\/1:[0-9]+\/my%20disk%2C%20it$/), "\(outcome.output)")
        #expect(outcome.output.contains(/(?m)^nbd:\/\/\[fe80::1%25lo\]:[0-9]+\/$/), "\(outcome.output)")
    }

    /// A machine that is no guest of a host with vsock: it can only connect to itself.
    private static let guestScript = #"""
        set -e
        modprobe vsock_loopback
        export TMPDIR=/tmp
        export compare='cmp /tmp/copy.raw /in/disk.raw && echo "$label the same" && rm /tmp/copy.raw'
        nbdecrypt serve /in/image.qcow2 --vsock 0 --insecure-plaintext --export-name "my disk, it" --run '
            set -e
            echo "$uri"
            nbdcopy "$uri" /tmp/copy.raw
            label="vsock: libnbd"
            eval "$compare"
            options="driver=raw,file.driver=nbd,file.server.type=vsock,file.server.cid=1,file.server.port=$port"
            qemu-img convert --image-opts -O raw "$options,file.export=my disk,, it" /tmp/copy.raw
            label="vsock: QEMU"
            eval "$compare"'
        nbdecrypt serve /in/image.qcow2 --vsock 0 --tls-psk auto --run '
            set -e
            nbdcopy "$uri" /tmp/copy.raw
            label="TLS: libnbd"
            eval "$compare"
            file=${uri#*tls-psk-file=}
            options="driver=raw,file.driver=nbd,file.server.type=vsock,file.server.cid=1,file.server.port=$port"
            qemu-img convert --object tls-creds-psk,id=t,dir=${file%/*},username=nbdecrypt,endpoint=client \
                --image-opts -O raw "$options,file.tls-creds=t" /tmp/copy.raw
            label="TLS: QEMU"
            eval "$compare"'
        nbdecrypt serve /in/image.qcow2 --vsock 0 --insecure-plaintext > /tmp/printed &
        until grep -q "Stop with" /tmp/printed; do sleep 0.05; done
        grep -o "^  nbd+vsock://2:" /tmp/printed
        grep "with the number of every host, 2" /tmp/printed
        kill $!
        wait
        ip address add fe80::1/64 dev lo
        nbdecrypt serve /in/image.qcow2 --bind fe80::1%lo --port 0 --insecure-plaintext --run '
            set -e
            echo "$uri"
            nbdcopy "$uri" /tmp/copy.raw
            label="IPv6: libnbd"
            eval "$compare"
            qemu-img convert -f raw -O raw "$uri" /tmp/copy.raw
            label="IPv6: QEMU"
            eval "$compare"'
        """#
}
