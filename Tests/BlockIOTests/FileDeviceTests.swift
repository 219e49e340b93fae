// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Synchronization
import SystemPackage
import Testing
import TestSupport

@Suite struct FileDeviceTests {
    /// Makes a file for the time of `body`.
    private func withFile(_ bytes: [UInt8], _ body: (FilePath) throws -> Void) throws {
        let path = FilePath("/tmp/nbdecrypt-test-\(UInt64.random(in: 0 ... .max))")
        let file = try FileDescriptor.open(path, .writeOnly, options: [.create], permissions: .ownerReadWrite)
        try file.closeAfter { _ = try file.writeAll(bytes) }
        defer { try? FileDescriptor.open(path, .writeOnly, options: .truncate).close() }
        try body(path)
    }

    @Test func `reads give the file's bytes in both modes`() throws {
        let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 * 31) }
        try withFile(bytes) { path in
            let device = try FileDevice(path: path, excludesWriters: true)
            #expect(device.size == 10_000)
            #expect(try device.read(count: 777, at: 9_223) == Array(bytes[9_223...]))
            do {
                #expect(try device.read(count: 100, at: 1, .cachedOnly) == Array(bytes[1..<101]))
            } catch let error as BlockError {
                // Not every file system can tell what is cached.
                #expect(error == .wouldBlock)
            }
        }
    }

    @Test func `a file that has shrunk is an error and not zeros`() throws {
        try withFile([UInt8](repeating: 1, count: 8192)) { path in
            let device = try FileDevice(path: path, excludesWriters: true)
            try FileDescriptor.open(path, .writeOnly, options: .truncate).close()
            #expect {
                try device.read(count: 10, at: 0)
            } throws: { error in
                (error as? BlockError)?.code == .inputOutput
                    && "\(error)".hasSuffix("the file has become shorter than 8192 bytes")
            }
        }
    }

    /// Of a file with a hole at both ends, in bytes.
    private static let size: UInt64 = 3 << 20

    /// Makes a file with data in its second third, and opens it.
    private func withSparseFile(_ body: (FileDevice, FileDescriptor) throws -> Void) throws {
        try withFile([]) { path in
            let file = try FileDescriptor.open(path, .readWrite)
            try file.closeAfter {
                try file.resize(to: Int64(Self.size))
                _ = try file.writeAll(toAbsoluteOffset: 1 << 20, [UInt8](repeating: 7, count: 1 << 20))
                try body(try FileDevice(path: path, excludesWriters: false, isWritable: true), file)
            }
        }
    }

    /// All extents in order, neighbours of a kind joined: where each ends, and what it is.
    private func map(_ device: FileDevice) throws -> [UInt64: Extent.Kind] {
        var ends: [UInt64: Extent.Kind] = [:]
        var position: UInt64 = 0
        while position < device.size {
            let extent = try device.extent(at: position, limit: device.size - position)
            if ends[position] == extent.kind { ends[position] = nil }
            position += extent.length
            ends[position] = extent.kind
        }
        return ends
    }

    @Test(arguments: [0, 1000, 1 << 20, 3 << 19, 2 << 20, 5 << 19] as [UInt64])
    func `what a file has lost is data and no hole, because it cannot be read`(length: UInt64) throws {
        try withSparseFile { device, file in
            let before = try map(device)
            // A file system without holes has nothing but data, and nothing to get wrong.
            #expect(before[Self.size] != nil)
            try file.resize(to: Int64(length))
            let after = try map(device)
            #expect(after[Self.size] == .data)
            for offset in stride(from: length, to: Self.size, by: 4096) {
                let extent = try device.extent(at: offset, limit: Self.size - offset)
                #expect(extent == Extent(offset: offset, length: Self.size - offset, kind: .data))
                #expect(throws: BlockError.self) { try device.read(count: 1, at: offset) }
            }
            // What is left says what it said.
            for (end, kind) in before where end < length { #expect(after[end] == kind) }
            // A hole ends where the file does.
            if length > 2 << 20, before[Self.size] == .unallocated { #expect(after[length] == .unallocated) }
        }
    }

    @Test func `a file that has become shorter is not written to: what it has lost would become zeros`() throws {
        try withSparseFile { device, file in
            try device.flush()
            try file.resize(to: 1 << 20)
            let zeros = try #require(ByteRange(offset: 2 << 20, length: 4096))
            let shorter = "file: it has become shorter than 3145728 bytes, and is not written to any more"
            let attempts: [() throws -> Void] = [
                { try device.write([UInt8](repeating: 1, count: 512), at: 3 << 19) },
                { try device.zero(zeros, []) }, { try device.zero(zeros, .mayDiscard) }, { try device.flush() },
            ]
            for attempt in attempts { #expect(throws: BlockError.inputOutput(shorter)) { try attempt() } }
            #expect(try file.seek(offset: 0, from: .end) == 1 << 20)
        }
    }

    @Test(arguments: 0..<3 as Range<UInt64>)
    func `what is written, made zero or given up is that and nothing else, also where the file has grown`(
        seed: UInt64
    ) throws {
        try withSparseFile { device, file in
            try device.grow(to: UInt64(Self.size) + 5000)
            #expect(device.size == UInt64(Self.size) + 5000)
            #expect(try file.seek(offset: 0, from: .end) == Int64(Self.size) + 5000)
            #expect(try device.read(count: 5000, at: UInt64(Self.size)).allSatisfy { $0 == 0 })
            var exercise = try LayerExercise(device, seed: seed)
            try exercise.run(30)
            // It does not become shorter.
            try device.grow(to: 1)
            #expect(device.size == UInt64(Self.size) + 5000)
        }
    }

    @Test func `threads that make a file longer and write to it never find it shorter`() throws {
        let device = try FileDevice.scratch(in: "/tmp")
        let failures = Atomic(0)
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            for step in 0..<20_000 {
                let offset = UInt64(step * 4 + thread) * 16
                do {
                    try device.grow(to: offset + 16)
                    try device.write([UInt8](repeating: UInt8(thread), count: 16), at: offset)
                } catch { failures.add(1, ordering: .relaxed) }
            }
        }
        #expect(failures.load(ordering: .relaxed) == 0)
        #expect(try device.read(count: 64, at: 0) == [UInt8]((0..<64).map { UInt8($0 / 16) }))
    }

    @Test func `a file that has lost bytes does not grow over them`() throws {
        try withSparseFile { device, file in
            try file.resize(to: 1 << 20)
            #expect(throws: BlockError.self) { try device.grow(to: UInt64(Self.size) * 2) }
            #expect(try file.seek(offset: 0, from: .end) == 1 << 20)
        }
    }

    @Test(arguments: [
        ("/nonexistent/image", "check the name"), ("/tmp", "is a directory"),
        ("/dev/null", "neither a file nor a block device"),
    ])
    func `what is not a file is refused with a sentence`(path: String, part: String) {
        #expect {
            try FileDevice(path: FilePath(path), excludesWriters: true)
        } throws: { error in
            (error as? FormatError)?.code == .unreadable && "\(error)".contains(part)
        }
    }
}
