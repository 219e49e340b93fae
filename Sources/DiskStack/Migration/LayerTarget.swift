// SPDX-License-Identifier: Apache-2.0

package import BlockIO

/// The new image of one layer of a chain, as the target of a copy of the disk that this layer and those below it make.
///
/// It takes what the layer itself stores, data as data and zeros as zeros. The rest is left out: there the new images below
/// answer, as the old ones did.
package final class LayerTarget: BlockDevice {
    private let layer: any BlockDevice
    private let image: any BlockDevice

    /// Where the layer can tell nothing, it is asked again so many bytes further on: while zeros are looked for, and while a
    /// block is written.
    private static let (searchStep, writeStep): (UInt64, UInt64) = (1 << 20, 512)

    /// What an old layer says of some of its bytes.
    private enum Content {
        case elsewhere, zeros, data
    }

    /// - Parameters:
    ///   - layer: the disk of the old layer, over those below it.
    ///   - image: the disk of the new image, which is empty, over the new images below it; as long as that of the layer.
    package init(of layer: any BlockDevice, in image: any BlockDevice) {
        self.layer = layer
        self.image = image
    }

    /// Of the new image.
    package var size: UInt64 { image.size }
    /// Of the new image.
    package var alignment: Int { image.alignment }
    /// Of the new image.
    package var depth: Int { image.depth }
    /// As the new image.
    package var isWritable: Bool { image.isWritable }

    /// Makes zeros of what the layer knows to be zeros of its own. Done before the rest, in runs as long as they are: a copy in
    /// blocks that are shorter than a cluster would store them.
    package func addZeros() throws(BlockError) {
        try forEachPart(of: 0..<size, step: Self.searchStep) { (part, content) throws(BlockError) in
            guard content == .zeros else { return }
            try zero(part)
        }
    }

    /// Writes what the layer stores of these bytes.
    package func write(
        _ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions
    ) throws(BlockError) {
        try checkBounds(bytes.byteCount, at: offset, layer: "request")
        var position = 0
        while position < bytes.byteCount {
            let place = offset + UInt64(position)
            let (content, length) = content(at: place, limit: UInt64(bytes.byteCount - position), step: Self.writeStep)
            switch content {
            case .elsewhere: break
            case .zeros: try zero(place..<place + length)
            case .data:
                try bytes.withSlice(position..<position + Int(length)) { (part) throws(BlockError) in
                    try image.write(&part, at: place, options)
                }
            }
            position += Int(length)
        }
    }

    /// Makes zeros of what the layer stores of these bytes.
    package func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        try checkBounds(range, layer: "request")
        try forEachPart(of: range.offset..<range.end, step: Self.writeStep) { (part, content) throws(BlockError) in
            guard content != .elsewhere else { return }
            try zero(part)
        }
    }

    private func zero(_ range: Range<UInt64>) throws(BlockError) {
        guard let part = ByteRange(offset: range.lowerBound, length: UInt64(range.count)) else { return }
        try image.zero(part, [])
    }

    private func forEachPart(
        of range: Range<UInt64>, step: UInt64, _ body: (Range<UInt64>, Content) throws(BlockError) -> Void
    ) throws(BlockError) {
        var position = range.lowerBound
        while position < range.upperBound {
            let (content, length) = content(at: position, limit: range.upperBound - position, step: step)
            try body(position..<position + length, content)
            position += length
        }
    }

    /// What cannot be told cannot be read either: what is written there stands for it.
    private func content(at offset: UInt64, limit: UInt64, step: UInt64) -> (Content, length: UInt64) {
        guard let extent = try? layer.extent(at: offset, limit: limit) else {
            return (.data, min(limit, step - offset % step))
        }
        return (extent.depth != 1 ? .elsewhere : extent.isZero ? .zeros : .data, extent.length)
    }

    /// Nobody's business: a layer keeps what it has.
    package func discard(_ range: ByteRange) throws(BlockError) { throw .notSupported }

    /// Of the new image.
    package func flush() throws(BlockError) { try image.flush() }

    /// Of the new image.
    package func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try image.read(into: &buffer, at: offset, mode)
    }

    /// Of the new image.
    package func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        try image.extent(at: offset, limit: limit, mode)
    }

    /// Of the new image.
    package func prefetch(_ range: ByteRange, _ budget: Budget) { image.prefetch(range, budget) }
}
