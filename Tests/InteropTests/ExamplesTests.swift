// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The scripts in examples/ do what their first lines say.
@Suite(.fewAtATime)
struct ExamplesTests {
    @Test func `a small program serves an encrypted image with the libraries, and refuses a wrong passphrase`()
        async throws
    {
        try await withImage { old in
            let build = [
                "build", "--package-path", "\(Program.root)/examples/embed", "--scratch-path",
                "\(Program.root)/.build/embed",
            ]
            try await Tool.succeed("swift", build, seconds: 1800)
            let directory = try await Tool.succeed("swift", build + ["--show-bin-path"]).dropLast()
            let copy = old.directory.file("copy.raw")
            let script = """
                "$1" "$2" "$3" "$4" & server=$!
                trap 'kill $server' EXIT
                until nbdinfo --size "nbd+unix:///?socket=$4" 2>/dev/null; do kill -0 $server; done
                nbdcopy "nbd+unix:///?socket=$4" "$5"
                """
            try await Tool.succeed(
                "bash",
                [
                    "-ec", script, "bash", "\(directory)/embed", old.image.path, old.passphrasePath,
                    old.directory.file("embed.sock"), copy,
                ])
            try await Tool.succeed("cmp", [old.rawPath, copy])

            let wrong = try old.directory.write("wrong.txt", text: "wrong\n")
            let refusal = try await Tool.run(
                "\(directory)/embed", [old.image.path, wrong, old.directory.file("other.sock")])
            #expect(refusal.code == 1)
            #expect(refusal.output.contains("\(old.image.path): the passphrase file \(wrong) does not fit"))
        }
    }

    @Test(arguments: ["nbd+unix", "nbd:unix", "nbd:tcp"])
    func `QEMU boots an encrypted disk from every kind of NBD URL`(_ kind: String) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ImageMaker(directory: directory)
        let disk = BootSector.disk
        let image = try await maker.image(of: disk, ImageRecipe(isEncrypted: true, size: disk.count))
        let outcome = try await Tool.run(
            script("boot-with-qemu.sh"),
            [
                "--url", kind, image.path, try #require(image.passphrasePath), "-m", "32M", "-nographic", "-net",
                "none", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-name", "it's a test",
            ], environment: environment)
        #expect(outcome.code == BootSector.exitStatus, "\(outcome.errors)")
        #expect(outcome.output.contains(BootSector.message))
        #expect(outcome.errors.contains("the passphrase fits: boot code"))
    }

    /// Runs in a virtual machine that has neither Swift nor the libraries of this machine: what `scripts/vm bundle`
    /// copies is all that the release binary needs.
    @Test func `the kernel's NBD client attaches and mounts encrypted disks, on a machine without Swift`() async throws
    {
        try await withImage { whole in
            try await withImage(isPartitioned: true) { partitioned in
                let share = whole.directory.file("share")
                try FileManager.default.createDirectory(atPath: share, withIntermediateDirectories: true)
                try FileManager.default.copyItem(atPath: whole.image.path, toPath: "\(share)/whole.qcow2")
                try FileManager.default.copyItem(atPath: partitioned.image.path, toPath: "\(share)/partitioned.qcow2")
                try FileManager.default.copyItem(atPath: whole.passphrasePath, toPath: "\(share)/passphrase.txt")
                let vm = "\(Program.root)/scripts/vm"
                try await Tool.succeed(
                    vm, ["bundle", share, try Program.path, script("attach-with-nbd-client.sh")])
                let guest = try whole.directory.write("guest.sh", text: Self.guestScript)
                let outcome = try await Tool.run(vm, ["run", "--share", share, guest], seconds: 300)
                #expect(outcome.code == 0, "\(outcome.errors)\(outcome.output)")
                #expect(outcome.output.contains("whole: \(ExamplesImage.letter)"), "\(outcome.output)")
                #expect(outcome.output.contains("partition: \(ExamplesImage.letter)"), "\(outcome.output)")
                #expect(outcome.output.contains("the disk has no partition 7"), "\(outcome.output)")
                #expect(outcome.output.contains("with 77"), "\(outcome.output)")
                #expect(outcome.output.hasSuffix("nothing is left\n"), "\(outcome.output)")
            }
        }
    }

    /// Mounts a disk and a partition, fails to mount a partition that is not there and with a wrong passphrase, and looks
    /// for what is left.
    private static let guestScript = """
        set -e
        cp /in/*.qcow2 /in/passphrase.txt /tmp
        export NBDECRYPT=/in/bin/nbdecrypt
        attach() { attach-with-nbd-client.sh "$@"; }
        attach /tmp/whole.qcow2 /tmp/passphrase.txt sh -c 'echo "whole: $(cat letter.txt)"; ! touch x'
        attach /tmp/partitioned.qcow2 /tmp/passphrase.txt sh -c 'echo "partition: $(cat letter.txt)"'
        PARTITION=7 attach /tmp/partitioned.qcow2 /tmp/passphrase.txt true || echo "no such partition"
        echo wrong > /tmp/wrong.txt
        attach /tmp/whole.qcow2 /tmp/wrong.txt true || echo "with $?"
        for path in /sys/block/nbd*/pid /tmp/tmp.*; do [ ! -e "$path" ] || { echo "left: $path"; exit 1; }; done
        ! grep nbd /proc/mounts
        ! pidof nbdecrypt
        echo "nothing is left"

        """

    private let environment: [String: String?] = ["NBDECRYPT": try? Program.path]

    private func script(_ name: String) -> String { "\(Program.root)/examples/\(name)" }

    /// Runs an example, which must succeed.
    ///
    /// QEMU measures the processor to choose the cost of a LUKS key, and gives up when that goes wrong, as it does now and
    /// then on a busy virtual machine. Then the example is run again.
    @discardableResult
    private func example(_ name: String, _ image: ExamplesImage, _ arguments: [String]) async throws -> Tool.Outcome {
        var attempts = 0
        while true {
            let outcome = try await Tool.run(
                script(name), [image.image.path, image.passphrasePath] + arguments, environment: environment,
                seconds: 300)
            attempts += 1
            if outcome.code == 0 { return outcome }
            guard attempts < 6, outcome.errors.contains("Unable to get accurate CPU usage") else {
                throw Tool.Failed(outcome)
            }
        }
    }

    private func withImage(
        isPartitioned: Bool = false, _ body: (ExamplesImage) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await body(try await ExamplesImage(directory, isPartitioned: isPartitioned))
    }
}

/// A disk that a PC boots to say something and to end QEMU.
private enum BootSector {
    static let message = "nbdecrypt boots"
    /// isa-debug-exit ends QEMU with 2n+1 for the byte n that is written to it.
    static let exitStatus: Int32 = 2 * 0x10 + 1

    /// Large enough for the BIOS to take it for a disk.
    static var disk: Data {
        let code: [UInt8] = [
            0xFA,  // cli
            0x31, 0xC0,  // xor ax, ax
            0x8E, 0xD8,  // mov ds, ax
            0xBE, 0x19, 0x7C,  // mov si, 0x7C19: the message
            0xBA, 0xF8, 0x03,  // mov dx, 0x3F8: the first serial port
            0xAC,  // next: lodsb
            0x84, 0xC0,  // test al, al
            0x74, 0x03,  // jz done
            0xEE,  // out dx, al
            0xEB, 0xF8,  // jmp next
            0xB0, 0x10,  // done: mov al, 0x10
            0xE6, 0xF4,  // out 0xF4, al: the port of isa-debug-exit
            0xF4,  // hlt
            0x90,  // nop
        ]
        var disk = Data(code + Array(message.utf8) + [0x0D, 0x0A, 0x00])
        disk.append(Data(count: 510 - disk.count))
        disk.append(contentsOf: [0x55, 0xAA])
        disk.append(Data(count: (1 << 20) - disk.count))
        return disk
    }
}
