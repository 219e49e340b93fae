// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Testing
import TestSupport

/// The verbs of the layer that encrypts and decrypts.
@Suite struct CryptDeviceTests {
    private func device(
        _ below: MemoryDevice, _ specification: String = "aes-xts-plain64", sectorSize: Int = 512, ivTweak: UInt64 = 0,
        allowsDiscards: Bool = false
    ) throws -> CryptDevice {
        let cipher = try CipherSpec(specification).makeCipher(
            key: secret(noise(64)), sectorSize: sectorSize)
        return try #require(CryptDevice(below, cipher: cipher, ivTweak: ivTweak, allowsDiscards: allowsDiscards))
    }

    @Test(arguments: [512, 1024, 2048, 4096], 0..<3 as Range<UInt64>)
    func `what is written, made zero or given up is that and nothing else`(sectorSize: Int, seed: UInt64) throws {
        let below = MemoryDevice(noise(65_536 + 300), alignment: seed == 2 ? 4096 : 1, isWritable: true)
        let memory = seed == 2 ? MemoryDevice(noise(65_536), alignment: 4096, isWritable: true) : below
        var exercise = try LayerExercise(
            try device(memory, sectorSize: sectorSize, ivTweak: 80, allowsDiscards: seed == 1), seed: seed)
        try exercise.run(150)
    }

    @Test func `what is stored is ciphertext, of zeros too`() throws {
        let below = MemoryDevice([UInt8](repeating: 0, count: 1 << 20), isWritable: true)
        let device = try device(below, ivTweak: 7)
        let range = try #require(ByteRange(offset: 0, length: 1 << 20))
        try device.zero(range, .mayDiscard)
        #expect(try device.read(count: 1 << 20, at: 0).allSatisfy { $0 == 0 })
        // Each sector is another one, and none is zeros.
        let sectors = Set((0..<2048).map { Array(below.bytes[($0 * 512)..<($0 * 512 + 512)]) })
        #expect(sectors.count == 2048)
        #expect(!sectors.contains([UInt8](repeating: 0, count: 512)))
        #expect(throws: BlockError.notSupported) { try device.zero(range, .fastOnly) }
    }

    @Test func `ranges are given up below only when that is allowed`() throws {
        let range = try #require(ByteRange(offset: 512, length: 1024))
        for isAllowed in [false, true] {
            let below = MemoryDevice(noise(4096), isWritable: true)
            let device = try device(below, allowsDiscards: isAllowed)
            try device.discard(range)
            #expect(below.calls == (isAllowed ? [.discard(range)] : []))
        }
    }

    @Test func `what must be durable is so below`() throws {
        let below = MemoryDevice(noise(1 << 20), isWritable: true)
        let device = try device(below)
        try device.write(noise(512), at: 512, .durable)
        #expect(below.calls == [.write(offset: 512, count: 512, .durable)])
        try device.zero(try #require(ByteRange(offset: 0, length: 1 << 20)), .durable)
        #expect(below.calls.last == .flush)
        try device.flush()
        #expect(below.calls.suffix(2) == [.flush, .flush])
        #expect(device.depth == below.depth)
    }

    @Test func `failures below are those of the verbs, and nothing is written to what is not writable`() throws {
        let below = MemoryDevice(noise(4096), isWritable: true)
        let device = try device(below)
        let range = try #require(ByteRange(offset: 0, length: 512))
        let failure = BlockError.noSpace("full")
        below.faults.changeFailure = failure
        #expect(throws: failure) { try device.write(noise(512), at: 0) }
        #expect(throws: failure) { try device.zero(range, []) }
        #expect(throws: failure) { try device.flush() }
        let readOnly = try self.device(MemoryDevice(noise(4096)))
        #expect(!readOnly.isWritable)
        #expect(throws: BlockError.readOnly) { try readOnly.write(noise(512), at: 0) }
        #expect(throws: BlockError.readOnly) { try readOnly.zero(range, []) }
        #expect(throws: BlockError.readOnly) { try readOnly.discard(range) }
    }

    @Test func `no verb takes what is not whole sectors, or lies beyond the end`() throws {
        let below = MemoryDevice(noise(4096), isWritable: true)
        let device = try device(below)
        for (offset, count) in [(1, 512), (0, 511), (4096, 512)] as [(UInt64, Int)] {
            let range = try #require(ByteRange(offset: offset, length: UInt64(count)))
            #expect(throws: BlockError.self) { try device.write(noise(count), at: offset) }
            #expect(throws: BlockError.self) { try device.zero(range, []) }
            #expect(throws: BlockError.self) { try device.discard(range) }
        }
        #expect(below.calls.isEmpty)
    }
}
