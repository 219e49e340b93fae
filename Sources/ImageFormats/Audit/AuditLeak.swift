// SPDX-License-Identifier: Apache-2.0

/// A place where an encrypted disk is not as secret as its owner may think, or where ciphertext is taken for plaintext.
public struct AuditLeak: Equatable, Sendable {
    /// What sort of place.
    public enum Kind: String, Sendable, CaseIterable {
        /// Compressed clusters, which no image format encrypts.
        case compressedClusters
        /// Parts of an encrypted container that no cipher protects.
        case plaintextPart
        /// A data file that is marked as a plain raw image, but holds ciphertext.
        case ciphertextInRawFile
        /// A layer without encryption above or below an encrypted one.
        case plaintextLayer
    }

    /// What sort of leak.
    public let kind: Kind
    /// Which layer, 0 being the top.
    public let layer: Int
    /// How many clusters; nil when it is not clusters that leak.
    public let clusterCount: UInt64?
    /// Bytes of the file where the first of them are.
    public let places: [UInt64]
    /// What leaks, and what to do.
    public let description: String

    /// The leaks of a chain of layers: those of each, and those that come from mixing encrypted and other layers.
    ///
    /// - Parameter layers: the top first.
    public static func all(of layers: [AuditedLayer]) -> [AuditLeak] {
        layers.indices.flatMap { ofLayer($0, layers[$0]) } + betweenLayers(layers)
    }

    private static func ofLayer(_ index: Int, _ layer: AuditedLayer) -> [AuditLeak] {
        var leaks = layer.plaintextParts.map { part in
            AuditLeak(
                kind: .plaintextPart, layer: index, clusterCount: nil, places: [],
                description: "\(layer.name): \(part): whoever has the file can read it, and whoever can write to the "
                    + "header can make it say so; if it is not meant to be so, take a copy of before")
        }
        guard layer.isEncrypted else { return leaks }
        if layer.compressedClusterCount > 0 {
            let count = layer.compressedClusterCount
            leaks.append(
                AuditLeak(
                    kind: .compressedClusters, layer: index, clusterCount: count, places: layer.compressedClusterPlaces,
                    description:
                        "\(layer.name): \(count) compressed \(count == 1 ? "cluster" : "clusters") of the disk and "
                        + "its snapshots \(count == 1 ? "is" : "are") stored in the clear, because compressed clusters are never encrypted: whoever has the file "
                        + "can unpack them; copy the image without compression and destroy this file"))
        }
        if layer.hasRawDataFile {
            leaks.append(
                AuditLeak(
                    kind: .ciphertextInRawFile, layer: index, clusterCount: nil, places: [],
                    description:
                        "\(layer.name): its data file is marked as a raw image that can be read on its own, but "
                        + "holds ciphertext: a program that trusts the mark gives out noise, or destroys the disk by "
                        + "writing plaintext to it; clear the mark with "
                        + QEMUImageCommand.text("qemu-img amend -o data_file_raw=off", isEncrypted: true)))
        }
        return leaks
    }

    private static func betweenLayers(_ layers: [AuditedLayer]) -> [AuditLeak] {
        layers.indices.compactMap { index in
            let layer = layers[index]
            guard !layer.isEncrypted else { return nil }
            let (relation, other): (String, AuditedLayer)
            if let below = layers[(index + 1)...].first(where: \.isEncrypted) {
                (relation, other) = ("above", below)
            } else if let above = layers[..<index].last(where: \.isEncrypted) {
                (relation, other) = ("below", above)
            } else {
                return nil
            }
            let now =
                layer.storesData
                ? "what it holds of the disk can be read by anybody"
                : "it holds nothing yet, but what is written to it can be read by anybody"
            return AuditLeak(
                kind: .plaintextLayer, layer: index, clusterCount: nil, places: [],
                description: "\(layer.name): this layer is not encrypted and lies \(relation) the encrypted "
                    + "\(other.name): \(now)")
        }
    }
}
