// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import TestSupport
import Testing

@Suite struct LUKSDamageTests {
    @Test func `there are many faults, each with a name of its own`() {
        #expect(Set(LUKSDamage.all.map(\.description)).count == LUKSDamage.all.count)
        #expect(LUKSDamage.all.count { $0.version == 1 } >= 20)
        #expect(LUKSDamage.all.count { $0.version == 2 } >= 40)
    }

    @Test(arguments: LUKSDamage.all)
    func `a damaged header is refused, and the sentence says what is wrong`(_ damage: LUKSDamage) throws {
        #expect(damage.image != damage.original, "the generator changed nothing")
        let error = try #require(throws: FormatError.self) {
            try LUKSVolume.read(from: damage.image.device, dataSize: damage.image.size, isDetached: false)
        }
        #expect(error.code == .damaged)
        #expect(error.description.contains(damage.sentence), "\(error)")
        // One line, not too long for a terminal, that ends in advice.
        #expect(error.description.split(whereSeparator: \.isNewline).count == 1 && error.description.count < 900)
        #expect(error.description.contains("; "))
    }

    @Test func `the headers that the faults are put into are in order`() throws {
        for image in [LUKS1Fixture.image, LUKS2Fixture().image] {
            let volume = try #require(try LUKSVolume.read(from: image.device, dataSize: image.size, isDetached: false))
            #expect(volume.warnings.isEmpty && volume.keyslots.count == 2)
            try LUKSSupport.check(volume)
        }
    }
}
