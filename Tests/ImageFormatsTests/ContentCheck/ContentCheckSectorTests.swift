// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import ImageFormats

@Suite struct ContentCheckSectorTests {
    private func character(_ bytes: [UInt8]) -> SectorCharacter { bytes.withBytes { SectorCharacter($0) } }

    @Test func `noise is noise, ten thousand times`() {
        let others = (0..<10_000 as Range<UInt64>).filter {
            character(SeededGenerator(seed: $0 << 20).bytes(512)) != .noise
        }
        #expect(others.isEmpty)
    }

    @Test(arguments: 0...255 as ClosedRange<UInt8>)
    func `a constant fill is structure, whatever the byte`(byte: UInt8) {
        #expect(character([UInt8](repeating: byte, count: 512)) == .structured)
    }

    @Test func `a short pattern over and over is structure`() {
        for pattern in [[0xDE, 0xAD, 0xBE, 0xEF], [0, 0xFF], [0xF6, 0xF6, 0, 1]] as [[UInt8]] {
            #expect(character((0..<512).map { pattern[$0 % pattern.count] }) == .structured)
        }
    }

    @Test func `sixteen zero bytes amid noise are structure`() {
        var bytes = SeededGenerator(seed: 1).bytes(512)
        bytes.replaceSubrange(160..<176, with: [UInt8](repeating: 0, count: 16))
        #expect(character(bytes) == .structured)
    }

    @Test func `text, in any alphabet, is structure`() {
        for sentence in [
            "It was the best of times, it was the worst of times. ", "Съешь ещё этих мягких французских булок. ",
            "いろはにほへとちりぬるを", "QmFzZTY0IGlzIGFsc28gdGV4dCwgaW4gYSB3YXku",
        ] {
            let bytes = Array(sentence.utf8)
            let varied = (0..<512).map { index in bytes[(index + index / 97 * 5) % bytes.count] }
            #expect(character(varied) == .structured)
        }
    }

    @Test func `a table of numbers is structure`() {
        let words = (0..<128 as Range<UInt32>).flatMap { index in
            let value = 40_000 + index * 7
            return (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) }
        }
        #expect(character(words) == .structured)
    }

    @Test(arguments: 1...100 as ClosedRange<UInt64>)
    func `a sector of ciphertext zeros is repetitive with every key and every number`(seed: UInt64) {
        for sector in [0, 1, 255, 256, 0xFFFF_FFFF, 0x1_0000_0000, 1 << 40] as [UInt64] {
            #expect(character(ContentCheckDevice.decryptedZeros(sector, seed: seed)) == .repetitive)
        }
    }

    @Test func `stale data with a few different words in zeros decrypt to something repetitive`() {
        // Ciphertext: zeros, with one word in every third block. A block of zeros after such a word gives D(0) XOR word.
        let zero = SeededGenerator(seed: 1).bytes(16)
        for seed in 2...100 as ClosedRange<UInt64> {
            let blocks = (0..<32).map { index -> [UInt8] in
                switch index % 3 {
                case 0: zero
                case 1: SeededGenerator(seed: seed << 8 + UInt64(index)).bytes(16)
                default: zero.enumerated().map { $0.offset / 4 == 2 ? $0.element ^ UInt8(index) : $0.element }
                }
            }
            #expect(character(blocks.flatMap { $0 }) == .repetitive)
        }
    }
}
