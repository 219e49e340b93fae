// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing
import TestSupport

/// Each verb of each layer that passes writes on, against an array of bytes, and over devices that fail.
@Suite struct LayerVerbsTests {
    /// A layer over devices in memory.
    enum Layer: CaseIterable {
        case window, concat, striped, aligned512, aligned4096, zeroDetecting, nested

        /// The layer, and the devices below.
        func make(isWritable: Bool = true) throws -> (layer: any BlockDevice, below: [MemoryDevice]) {
            func memory(_ count: Int, _ alignment: Int = 1) -> MemoryDevice {
                MemoryDevice(noise(count), alignment: alignment, isWritable: isWritable)
            }
            switch self {
            case .window:
                let below = memory(40_000, 512)
                return (WindowDevice(below, try #require(ByteRange(offset: 1024, length: 20_480))), [below])
            case .concat:
                let below = [memory(10_001), memory(8192, 512), memory(0), memory(5)]
                return (try #require(ConcatDevice(below)), below)
            case .striped:
                let below = [memory(24_576), memory(24_576, 4096), memory(24_576)]
                return (try #require(StripedDevice(below, chunk: 4096)), below)
            case .aligned512:
                let below = memory(20_480, 512)
                return (AlignedDevice(below), [below])
            case .aligned4096:
                let below = memory(20_480, 4096)
                return (AlignedDevice(below), [below])
            case .zeroDetecting:
                let below = memory(20_000)
                return (ZeroDetectingDevice(below), [below])
            case .nested:
                let below = [memory(8192, 4096), memory(8192, 512)]
                let striped = try #require(StripedDevice(below, chunk: 4096))
                return (
                    AlignedDevice.lifting(WindowDevice(striped, try #require(ByteRange(offset: 7, length: 16_000)))),
                    below
                )
            }
        }
    }

    @Test(arguments: Layer.allCases, 0..<4 as Range<UInt64>)
    func `what is written, made zero or given up is that and nothing else`(layer: Layer, seed: UInt64) throws {
        var exercise = try LayerExercise(try layer.make().layer, seed: seed)
        try exercise.run(200)
    }

    @Test(arguments: Layer.allCases)
    func `what must be durable is so for every device below`(layer: Layer) throws {
        let (device, below) = try layer.make()
        let range = try #require(ByteRange(offset: 0, length: device.size))
        try device.write([UInt8](repeating: 1, count: Int(device.size)), at: 0, .durable)
        try device.zero(range, .durable)
        for device in below where device.size > 0 {
            #expect(!device.calls.isEmpty)
            for call in device.calls {
                switch call {
                case .write(_, _, let options): #expect(options == .durable)
                case .zero(_, let options): #expect(options == .durable)
                default: Issue.record("\(call)")
                }
            }
        }
    }

    @Test(arguments: Layer.allCases)
    func `a flush reaches every device below, also when one fails`(layer: Layer) throws {
        let (device, below) = try layer.make()
        let used = below.filter { $0.size > 0 }
        used[0].faults.changeFailure = .inputOutput("the disk is gone")
        #expect(throws: BlockError.inputOutput("the disk is gone")) { try device.flush() }
        for other in used.dropFirst() { #expect(other.calls == [.flush]) }
        used[0].faults.changeFailure = nil
        try device.flush()
        #expect(used[0].calls == [.flush])
    }

    @Test(arguments: Layer.allCases)
    func `a failure below is the failure of the verb`(layer: Layer) throws {
        let (device, below) = try layer.make()
        let failure = BlockError.noSpace("the disk is full")
        for device in below { device.faults.changeFailure = failure }
        let range = try #require(ByteRange(offset: 0, length: device.size))
        #expect(throws: failure) { try device.write([UInt8](repeating: 1, count: Int(device.size)), at: 0) }
        #expect(throws: failure) { try device.zero(range, []) }
        #expect(throws: failure) { try device.discard(range) }
        for device in below { #expect(device.calls.isEmpty) }
    }

    @Test(arguments: Layer.allCases)
    func `over a device that is not writable nothing is`(layer: Layer) throws {
        let (device, below) = try layer.make(isWritable: false)
        let before = below.map(\.bytes)
        let range = try #require(ByteRange(offset: 0, length: device.size))
        #expect(!device.isWritable)
        #expect(throws: BlockError.readOnly) {
            try device.write([UInt8](repeating: 1, count: Int(device.size)), at: 0)
        }
        #expect(throws: BlockError.readOnly) { try device.zero(range, []) }
        #expect(throws: BlockError.readOnly) { try device.discard(range) }
        #expect(below.map(\.bytes) == before)
    }

    @Test(arguments: Layer.allCases)
    func `no verb reaches beyond the end`(layer: Layer) throws {
        let (device, below) = try layer.make()
        let unit = UInt64(device.alignment)
        let range = try #require(ByteRange(offset: device.size - unit, length: 2 * unit))
        let isRefused: (any Error) -> Bool = { ($0 as? BlockError)?.code == .outOfRange }
        #expect(
            performing: {
                try device.write([UInt8](repeating: 1, count: Int(2 * unit)), at: range.offset)
            }, throws: isRefused)
        #expect(performing: { try device.zero(range, []) }, throws: isRefused)
        #expect(performing: { try device.discard(range) }, throws: isRefused)
        for device in below { #expect(device.calls.isEmpty) }
    }

    @Test(arguments: Layer.allCases)
    func `a layer likes as much under way as what is below`(layer: Layer) throws {
        let (device, below) = try layer.make()
        #expect(device.depth == below[0].depth)
    }

    @Test func `of a unit that is changed in two places at once both changes stay`() async throws {
        let below = MemoryDevice([UInt8](repeating: 0, count: 4096), alignment: 512, isWritable: true)
        let device = AlignedDevice(below)
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<64 {
                group.addTask {
                    for round in 0..<50 { try? device.write([UInt8(round)], at: UInt64(number * 3)) }
                }
            }
        }
        let found = try device.read(count: 192, at: 0)
        #expect(found == (0..<192).map { $0.isMultiple(of: 3) ? 49 : 0 })
    }
}

/// Bytes that look random and are the same in every run.
private func noise(_ count: Int) -> [UInt8] {
    var generator = SeededGenerator(seed: 1)
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
}
