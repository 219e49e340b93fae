// SPDX-License-Identifier: Apache-2.0

import Testing

/// The kernel's dm-crypt says what the plaintext is, in one boot of the virtual machine; `make test-vm` runs this.
@Suite(
    "LUKS images opened by dm-crypt",
    .luksImages("kernel-ciphers", "kernel-aes", "kernel-sector-sizes", "kernel-segments"), .fourAtATime)
struct VirtualMachineLUKSTests {
    @Test("Every cipher of the kernel is read as dm-crypt reads it", arguments: LUKSImage.names("kernel-ciphers"))
    func ciphers(_ name: String) async throws { try await LUKSComparison.run(name) }

    @Test("AES in every mode with every vector is read as dm-crypt reads it", arguments: LUKSImage.names("kernel-aes"))
    func aes(_ name: String) async throws { try await LUKSComparison.run(name) }

    @Test("Every sector size is read as dm-crypt reads it", arguments: LUKSImage.names("kernel-sector-sizes"))
    func sectorSizes(_ name: String) async throws { try await LUKSComparison.run(name) }

    @Test(
        "Several segments and far sector numbers are read as device-mapper targets read them",
        arguments: LUKSImage.names("kernel-segments"))
    func segments(_ name: String) async throws { try await LUKSComparison.run(name) }
}
