// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// All that a server has said to one request.
public struct WireReply: Sendable {
    /// A run of bytes with the same status.
    public struct Extent: Equatable, Sendable {
        /// In bytes.
        public var length: UInt64
        /// As the context defines them.
        public var flags: UInt64

        /// As on the wire.
        public init(_ length: UInt64, _ flags: UInt64) { (self.length, self.flags) = (length, flags) }
    }

    /// A content chunk of a read.
    public struct Piece: Equatable, Sendable {
        /// From the start of the request, in bytes.
        public var range: Range<Int>
        /// It came as a hole.
        public var isHole: Bool

        /// As on the wire.
        public init(_ range: Range<Int>, isHole: Bool) { (self.range, self.isHole) = (range, isHole) }
    }

    /// What was asked.
    public let request: WireRequest
    /// An error value of the specification; 0 for none.
    public internal(set) var error: UInt32 = 0
    /// What the server said to people.
    public internal(set) var sentence = ""
    /// Where the error is, when the server said so.
    public internal(set) var errorOffset: UInt64?
    /// Of a read: as long as it was asked for; what did not come, because of an error, is zeros.
    public internal(set) var data: [UInt8] = []
    /// In the order in which they came.
    public internal(set) var pieces: [Piece] = []
    /// Of a block status: the extents in each context.
    public internal(set) var status: [UInt32: [Extent]] = [:]

    /// Has a disk with these contents, which are longer, the data of a part of the request?
    ///
    /// - Parameters:
    ///   - part: in bytes from the start of the request.
    public func hasData(of contents: [UInt8], in part: Range<Int>? = nil) -> Bool {
        let part = part ?? 0..<Int(request.length)
        return data.count >= part.upperBound
            && data.hasSameBytes(part, as: contents, at: Int(request.offset) + part.lowerBound)
    }
}

extension Array<UInt8> {
    /// Are the bytes of `range` those of another array from `start` on? Both are long enough. Quick in builds for debugging
    /// and for fuzzing, too, unlike a comparison of elements.
    public func hasSameBytes(_ range: Range<Int>, as other: [UInt8], at start: Int) -> Bool {
        precondition(range.upperBound <= count && start >= 0 && range.count <= other.count - start)
        guard !range.isEmpty else { return true }
        return unsafe withUnsafeBytes { bytes in
            unsafe other.withUnsafeBytes { other in
                guard let one = bytes.baseAddress, let two = other.baseAddress else { return false }
                return unsafe memcmp(one + range.lowerBound, two + start, range.count) == 0
            }
        }
    }
}
