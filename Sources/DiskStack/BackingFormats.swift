// SPDX-License-Identifier: Apache-2.0

public import BlockIO
public import ImageFormats

/// The formats of backing files as the caller says them, for images that do not: qcow version 1 has no place for it.
public struct BackingFormats: Sendable {
    /// As text "qcow2" for every layer that does not say, or "2=qcow2" for one.
    public struct Value: Sendable {
        /// In the chain; nil: every one.
        public let layer: Int?
        /// Of the backing file.
        public let format: ImageFormat

        /// - Throws: ``Mistake``.
        public init(_ text: String) throws(Mistake) {
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = parts.last, let format = ImageFormat(rawValue: String(name)) else {
                let known = ImageFormat.allCases.map(\.rawValue).joined(separator: ", ")
                throw Mistake("the format \(parts.last ?? "") is not known; there are \(known)")
            }
            guard parts.count == 2 else {
                (layer, self.format) = (nil, format)
                return
            }
            guard let layer = Int(parts[0]), (1..<ImageChain.maximumDepth).contains(layer) else {
                throw Mistake(
                    "\(text): backing files are the layers 1 to \(ImageChain.maximumDepth - 1); the image itself is layer 0, "
                        + "and its format is said with \(remedy: .format(nil))")
            }
            (self.layer, self.format) = (layer, format)
        }
    }

    /// Why formats cannot be meant so.
    public struct Mistake: Error, SentenceConvertible {
        /// One sentence.
        public let sentence: Sentence

        init(_ sentence: Sentence) { self.sentence = sentence }
    }

    private var ofAll: ImageFormat?
    private var ofLayer: [Int: ImageFormat] = [:]

    /// None is said.
    public init() {}

    /// - Throws: ``Mistake`` when a layer is given two.
    public init(_ values: [Value]) throws(Mistake) {
        for value in values {
            let known = value.layer.map { ofLayer[$0] } ?? ofAll
            guard known == nil || known == value.format else {
                let place = value.layer.map { "of layer \($0)" } ?? "of all layers that do not say"
                throw Mistake(
                    "the format \(place) is given twice, as \(known?.rawValue ?? "") and "
                        + "\(value.format.rawValue); for each layer of a chain say N=FORMAT")
            }
            if let layer = value.layer { ofLayer[layer] = value.format } else { ofAll = value.format }
        }
    }

    /// The format of a layer that no image says; nil: the caller does not either.
    subscript(layer: Int) -> ImageFormat? { ofLayer[layer] ?? ofAll }

    /// Refuses formats of layers that are not there, or that an image says to be something else.
    /// - Throws: ``OpeningError``.
    func check(_ chain: ImageChain) throws(OpeningError) {
        for (layer, format) in ofLayer.sorted(by: { $0.key < $1.key }) {
            guard layer < chain.links.count else {
                // What is broken is told instead.
                guard chain.breakage == nil else { continue }
                throw OpeningError(
                    .usage,
                    "\(remedy: .backingFormat(layer: layer, format: format.rawValue)): the last layer of \(chain.links[0].name) has the number "
                        + "\(chain.links.count - 1); the image itself is layer 0")
            }
            let found = chain.links[layer].kind.format
            guard found == format else {
                throw OpeningError(
                    .usage,
                    "\(remedy: .backingFormat(layer: layer, format: format.rawValue)): the image above it says that "
                        + "\(chain.links[layer].name) is \(found.rawValue); the option is for layers of which no image says it"
                )
            }
        }
    }
}
