// SPDX-License-Identifier: Apache-2.0

import Testing

/// LUKS1 by qemu-img, which also says what the plaintext is, and containers on the guest disk of a qcow2 image.
@Suite(.luksImages("qemu-raw", "qemu-qcow2", "nested"), .fewAtATime)
struct QEMULUKSTests {
    @Test(arguments: LUKSImage.names("qemu-raw"))
    func `raw LUKS images are read as QEMU reads them`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }

    @Test(arguments: LUKSImage.names("qemu-qcow2"))
    func `LUKS inside qcow2 is read as QEMU reads it`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }

    @Test(arguments: LUKSImage.names("nested"))
    func `a LUKS container that is the guest disk of a qcow2 image opens`(_ name: String) async throws {
        try await LUKSComparison.run(name)
    }
}
