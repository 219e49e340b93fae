// SPDX-License-Identifier: Apache-2.0

import Foundation

/// An image that is written to, and how QEMU made it.
struct WritingShape: Sendable, CustomStringConvertible {
    /// What the image stands on.
    enum Base: String, Sendable {
        case alone, backing, snapshot, dataFile, rawDataFile
    }

    var kind: ShapeLayer.Kind
    /// In bytes; of qcow2.
    var clusterSize = 65536
    var options: [String] = []
    var base = Base.alone
    /// Of the disk in bytes.
    var size: Int { kind.isQcow2 ? max(4 << 20, 12 * clusterSize) / clusterSize * clusterSize + 3 * 512 : 6 << 20 }

    var description: String { "\(kind), clusters of \(clusterSize), \(base)\(options.map { ", \($0)" }.joined())" }

    /// Every cluster size with two encryptions of three; sizes of reference counts, versions, subclusters and what the image
    /// stands on take turns.
    static let all: [WritingShape] = {
        let kinds: [ShapeLayer.Kind] = [.qcow2, .qcow2AES, .qcow2LUKS]
        var shapes = [WritingShape(kind: .raw), WritingShape(kind: .luks)]
        for bits in 9...21 {
            for (index, kind) in kinds.enumerated() where index != bits % 3 {
                var shape = WritingShape(kind: kind, clusterSize: 1 << bits)
                switch (bits + index) % 5 {
                case 0: shape.base = .backing
                case 1: shape.base = .snapshot
                case 2: shape.base = bits % 2 == 0 || kind != .qcow2 ? .dataFile : .rawDataFile
                default: break
                }
                let refcountBits = [1, 2, 4, 8, 16, 32, 64][(bits + 2 * index) % 7]
                if (bits + index) % 7 == 6, shape.base != .dataFile, shape.base != .rawDataFile, kind != .qcow2LUKS {
                    shape.options = ["compat=0.10"]
                } else {
                    shape.options = ["refcount_bits=\(shape.base == .snapshot ? max(2, refcountBits) : refcountBits)"]
                    if bits >= 14, (bits + index) % 3 == 0 { shape.options.append("extended_l2=on") }
                }
                shapes.append(shape)
            }
        }
        return shapes
    }()

    /// One of each kind.
    static let few: [WritingShape] = [
        WritingShape(kind: .luks), WritingShape(kind: .qcow2, base: .backing),
        WritingShape(kind: .qcow2AES, clusterSize: 4096, base: .snapshot),
        WritingShape(kind: .qcow2LUKS, clusterSize: 2 << 20), WritingShape(kind: .qcow2LUKS, clusterSize: 512),
    ]

    /// Makes it, with clusters of every kind.
    func make(in directory: TemporaryDirectory) async throws -> ShapeChain {
        let maker = ShapeMaker(directory: directory)
        guard kind.isQcow2 else {
            let layer = try await maker.create(kind, "top", size: size)
            return ShapeChain(layers: [layer])
        }
        var layers: [ShapeLayer] = []
        if base == .backing {
            layers = [try await maker.create(.qcow2AES, "base", size: size / 2 / 512 * 512)]
            try await ShapeChain(layers: layers).io(
                try maker.mixture(
                    .qcow2AES, size: size / 2 / 512 * 512, clusterSize: 65536, granularity: 512, seed: 3))
        }
        var options = options + ["cluster_size=\(clusterSize)"]
        let dataFile = base == .dataFile || base == .rawDataFile ? directory.file("data") : nil
        if let dataFile { options.append("data_file=\(dataFile),data_file_raw=\(base == .rawDataFile ? "on" : "off")") }
        var top = try await maker.create(
            kind, "top", size: size, options: options, backing: layers.first.map { ("base", $0.kind.driver) })
        top.dataFile = dataFile
        let chain = ShapeChain(layers: [top] + layers)
        // In a data file, nothing is compressed.
        let commands = try maker.mixture(
            kind, size: size, clusterSize: clusterSize, granularity: 512, seed: UInt64(clusterSize), count: 8)
        try await chain.io(commands.filter { dataFile == nil || !$0.contains("write -c") })
        if base == .snapshot {
            try await Tool.succeed(
                "qemu-img", ["snapshot", "-q"] + chain.objectArguments + ["-c", "before", chain.name])
        }
        return chain
    }

    /// What follows `nbdecrypt` to serve it for writing.
    func serve(_ chain: ShapeChain, in directory: TemporaryDirectory) -> [String] {
        ["serve", "--writable", chain.path, "--socket", directory.file("s")] + chain.ringArguments
            + (kind == .raw ? ["-f", "raw"] : [])
    }
}
