// SPDX-License-Identifier: Apache-2.0

import Testing

/// The kernel's dm-crypt says what the plaintext is, in one boot of the virtual machine; `make test-vm` runs this.
@Suite(.luksImages("kernel-ciphers", "kernel-aes", "kernel-sector-sizes", "kernel-segments"), .fewAtATime)
struct VirtualMachineLUKSTests {
    @Test(arguments: LUKSImage.names("kernel-ciphers"))
    func `every cipher of the kernel is read as dm-crypt reads it`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }

    @Test(arguments: LUKSImage.names("kernel-aes"))
    func `AES in every mode with every vector is read as dm-crypt reads it`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }

    @Test(arguments: LUKSImage.names("kernel-sector-sizes"))
    func `every sector size is read as dm-crypt reads it`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }

    @Test(arguments: LUKSImage.names("kernel-segments"))
    func `several segments and far sector numbers are read as device-mapper targets read them`(_ name: String)
        async throws
    { try await LUKSComparison.run(name) }
}
