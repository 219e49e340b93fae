// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Logical volumes compared with what the device mapper makes of the same disks; `make test-vm` runs this.
@Suite(.fewAtATime)
struct VirtualMachineLVMTests {
    @Test func `disks that LVM has made are read as the device mapper reads them`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let share = directory.file("share")
        let out = directory.file("out")
        for path in [share, out] {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        }
        let vm = "\(Program.root)/scripts/vm"
        let tools = try await Tool.shell("PATH=$PATH:/usr/sbin:/sbin; command -v lvm sfdisk losetup")
        try await Tool.succeed(vm, ["bundle", share] + tools.split(separator: "\n").map(String.init))
        let outcome = try await Tool.run(
            vm, ["run", "--share", share, "--out", out, Program.helper("lvm_guest.sh")], seconds: 960)
        try #require(outcome.code == 0, "\(outcome.errors)\(outcome.output)")
        let secret = ["--passphrase-file", try directory.write("secret", text: "secret")]
        var count = 0
        // The disk, the volume, the hash of the volume, and that of the LUKS container in it.
        for line in try File.text("\(out)/hashes").split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            let disk = "\(out)/\(words[0]).raw"
            if !File.exists(disk) { try await Tool.succeed("gunzip", ["\(disk).gz"]) }
            let volume = ["serve", disk, "-f", "raw", "--logical-volume", words[1]]
            let hash = ["--run", "nbdcopy \"$uri\" - | sha256sum"]
            let served = try await Tool.succeed(try Program.path, volume + secret + hash)
            #expect(served.hasPrefix(words.last ?? "-"), "\(line): \(served)")
            if words.count == 4 {
                let ciphertext = try await Tool.succeed(
                    try Program.path, volume + ["--exports", "ciphertext"] + hash)
                #expect(ciphertext.hasPrefix(words[2]), "\(line): \(ciphertext)")
            }
            count += 1
        }
        #expect(count == 10)
    }
}
