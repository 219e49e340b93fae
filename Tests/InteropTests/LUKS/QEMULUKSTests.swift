// SPDX-License-Identifier: Apache-2.0

import Testing

/// LUKS1 by qemu-img, which also says what the plaintext is, and containers on the guest disk of a qcow2 image.
@Suite("LUKS images by qemu-img", .luksImages("qemu-raw", "qemu-qcow2", "nested"), .fourAtATime)
struct QEMULUKSTests {
    @Test("Raw LUKS images are read as QEMU reads them", arguments: LUKSImage.names("qemu-raw"))
    func raw(_ name: String) async throws { try await LUKSComparison.run(name) }

    @Test("LUKS inside qcow2 is read as QEMU reads it", arguments: LUKSImage.names("qemu-qcow2"))
    func qcow2(_ name: String) async throws { try await LUKSComparison.run(name) }

    @Test("A LUKS container that is the guest disk of a qcow2 image opens", arguments: LUKSImage.names("nested"))
    func nested(_ name: String) async throws { try await LUKSComparison.run(name) }
}
