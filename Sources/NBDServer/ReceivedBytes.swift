// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Bytes that a client has sent and that are not used yet. An idle client's take no memory.
///
/// An object for the reason that ``SendQueue`` is one.
final class ReceivedBytes {
    private var bytes: [UInt8] = []
    private var position = 0

    var count: Int { bytes.count - position }

    /// All of them.
    var all: ArraySlice<UInt8> { bytes[position...] }

    /// The first `count` bytes; nil when there are fewer.
    func front(_ count: Int) -> ArraySlice<UInt8>? {
        self.count >= count ? bytes[position..<(position + count)] : nil
    }

    /// Gives `body` all of them to read.
    func withAll<Result>(_ body: (RawSpan) -> Result) -> Result {
        // Of the array, not of the property: while `body` runs, that is not in use, and nothing need be checked.
        let bytes = bytes
        return bytes.withBytes { body($0.extracting(position...)) }
    }

    /// Moves up to `count` bytes to the end of `buffer`, which has room for them.
    /// - Returns: how many were moved.
    func move(_ count: Int, to buffer: PayloadBuffer) -> Int {
        let moved = min(count, self.count)
        buffer.append(bytes[position..<(position + moved)])
        return drop(moved)
    }

    /// Receives once, behind what is there.
    /// - Parameter scratch: so that no memory is held while nothing comes.
    func receive(from stream: any ByteStream, through scratch: ScratchMemory) -> Socket.Progress {
        let progress = scratch.bytes.withMutableBytes { stream.receive(into: &$0) }
        if case .bytes(let count) = progress {
            bytes.removeFirst(position)
            position = 0
            bytes += scratch.bytes[..<count]
        }
        return progress
    }

    /// Drops up to `count` bytes.
    /// - Returns: how many were dropped.
    func drop(_ count: Int) -> Int {
        let dropped = min(count, self.count)
        position += dropped
        if position == bytes.count {
            bytes = []
            position = 0
        }
        return dropped
    }
}
