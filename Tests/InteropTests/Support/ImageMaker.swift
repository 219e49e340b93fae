// SPDX-License-Identifier: Apache-2.0

import Foundation
import TestSupport

/// Makes images with QEMU's own tools.
struct ImageMaker {
    let directory: TemporaryDirectory
    var passphrase = "correct horse battery staple"

    /// An empty image.
    func empty(_ recipe: ImageRecipe, name: String = "image.qcow2") async throws -> TestImage {
        var image = TestImage(path: directory.file(name))
        var options = ["cluster_size=\(recipe.clusterSize)", "compat=\(recipe.compat)"] + recipe.extra
        if recipe.isEncrypted {
            image.passphrasePath = try directory.write("\(name).passphrase", text: passphrase)
            options += ["encrypt.format=aes", "encrypt.key-secret=s"]
        }
        try await Tool.succeed(
            "qemu-img",
            ["create", "-q", "-f", "qcow2"] + image.objectArguments
                + ["-o", options.joined(separator: ","), image.path, "\(recipe.size)"])
        return image
    }

    /// Copies a raw disk into an empty image.
    func fill(_ image: TestImage, with disk: Data, compressed: Bool) async throws {
        let source = try directory.write("source.raw", disk)
        defer { try? FileManager.default.removeItem(atPath: source) }
        try await Tool.succeed(
            "qemu-img",
            ["convert", "-n", "-f", "raw"] + (compressed ? ["-c"] : []) + image.objectArguments
                + ["--target-image-opts", source, image.options])
    }

    /// An image that holds a disk.
    func image(of disk: Data, _ recipe: ImageRecipe, compressed: Bool = false) async throws -> TestImage {
        let image = try await empty(recipe)
        try await fill(image, with: disk, compressed: compressed)
        return image
    }

    /// An image with clusters of every kind.
    ///
    /// Compressed ones first; then, over and between them: whole clusters, parts of clusters, zeros that keep their
    /// cluster and zeros that give it up, discarded and once more compressed clusters, the very end of the disk (as part
    /// of a cluster, or compressed); at last writes anywhere. The part that the compressed copy does not reach stays unallocated.
    func mixed(_ recipe: ImageRecipe) async throws -> TestImage {
        let image = try await empty(recipe)
        let cluster = recipe.clusterSize
        let copied = recipe.size * 3 / 4 / cluster * cluster
        let first = DiskContents(mark: 0xA1).striped(count: copied, clusterSize: cluster)
        try await fill(image, with: first, compressed: true)

        var commands: [String] = []
        let second = DiskContents(mark: 0xB2)
        func write(_ offset: Int, _ count: Int, _ texture: DiskContents.Texture = .noise) throws {
            let slice = try directory.write("slice-\(commands.count)", second.bytes(at: offset, count: count, texture))
            commands.append("write -s \(slice) \(offset) \(count)")
        }
        try write(1 * cluster, 2 * cluster)
        try write(3 * cluster + cluster / 4, cluster / 2)
        try write(5 * cluster - cluster / 4, cluster / 2, .plain)
        commands += [
            "write -z \(6 * cluster) \(cluster)",
            "write -z -u \(7 * cluster) \(cluster)",
            "discard \(9 * cluster) \(2 * cluster)",
            "write -c -P 0x33 \(10 * cluster) \(cluster)",
            "write -P \(Self.marker) \(Self.markerCluster * cluster) \(cluster)",
        ]
        try write(recipe.size - cluster - 1024, 1024)
        let tail = recipe.size % cluster
        if recipe.clusterBits % 2 == 0 {
            commands.append("write -c -P 0x44 \(recipe.size - tail) \(tail)")
        } else {
            try write(recipe.size - 512, 512, .plain)
        }

        var generator = SeededGenerator(seed: UInt64(recipe.clusterBits))
        let kept = (10 * cluster)..<((Self.markerCluster + 1) * cluster)
        for index in 0..<24 {
            let offset = generator.number(below: recipe.size / 512 - 1) * 512
            let limit = min(recipe.size - offset, max(4 * cluster, 64 << 10), 1 << 20)
            let count = (generator.number(below: limit / 512) + 1) * 512
            guard !kept.overlaps(offset..<(offset + count)) else { continue }
            switch index % 4 {
            case 0: commands.append("write -z \(offset) \(count)")
            case 1: commands.append("write -z -u \(offset) \(count)")
            case 2: try write(offset, count, .plain)
            default: try write(offset, count)
            }
        }
        try await image.io(commands)
        return image
    }

    /// The byte that fills cluster ``markerCluster`` of a mixed image.
    static let marker = 0x5A
    static let markerCluster = 11
}
