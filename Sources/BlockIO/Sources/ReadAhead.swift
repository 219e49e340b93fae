// SPDX-License-Identifier: Apache-2.0

/// Sees which reads follow one another, and says which blocks they will want next.
///
/// Several readers may go through a device side by side. What is read ahead doubles with each block that one of them gets
/// on, so that a few reads in a row cost little, and a copy soon has as much under way as it may.
struct ReadAhead {
    private struct Stream {
        /// The byte after the last one read.
        var next: UInt64
        /// How many blocks are read ahead.
        var window = 0
        /// The first block that nobody has asked for.
        var ahead: UInt64 = 0
    }

    private static let maximumStreams = 8
    /// How many blocks reads of several threads may be out of order.
    private static let slack: UInt64 = 4

    private let blockSize: UInt64
    private let maximumWindow: Int
    /// The one used last at the end.
    private var streams: [Stream] = []

    init(blockSize: UInt64, maximumWindow: Int) {
        self.blockSize = blockSize
        self.maximumWindow = maximumWindow
    }

    /// Takes note of a read.
    ///
    /// - Parameters:
    ///   - limit: how many blocks may be asked for now.
    ///   - end: the number of blocks of the device.
    /// - Returns: the blocks to ask for, unless they are here.
    mutating func note(_ read: ByteRange, limit: Int, end: UInt64) -> Range<UInt64> {
        let slack = Self.slack * blockSize
        let found = streams.lastIndex { stream in
            read.offset + slack >= stream.next && read.offset <= stream.next + slack
        }
        guard let found else {
            if streams.count == Self.maximumStreams { streams.removeFirst() }
            streams.append(Stream(next: read.end))
            return 0..<0
        }
        var stream = streams.remove(at: found)
        defer { streams.append(stream) }
        guard read.end > stream.next else { return 0..<0 }
        if (read.end - 1) / blockSize > (stream.next - 1) / blockSize {
            stream.window = min(maximumWindow, max(2, stream.window * 2))
        }
        stream.next = read.end
        let next = read.end.units(of: blockSize)
        let first = max(stream.ahead, next)
        let last = min(end, next + UInt64(stream.window), first + UInt64(limit))
        guard first < last else { return 0..<0 }
        stream.ahead = last
        return first..<last
    }
}
