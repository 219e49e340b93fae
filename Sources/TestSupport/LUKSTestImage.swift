// SPDX-License-Identifier: Apache-2.0

/// The file of a LUKS volume, as far as it is not zero bytes.
public struct LUKSTestImage: Equatable, Sendable {
    /// What the file starts with.
    public var bytes: [UInt8]
    /// The length of the file in bytes; what `bytes` does not reach is zero.
    public var size: UInt64

    /// - Parameter size: in bytes.
    public init(bytes: [UInt8], size: UInt64) {
        self.bytes = bytes
        self.size = size
    }

    /// The file as a device.
    public var device: LUKSHeaderDevice { LUKSHeaderDevice(Array(bytes.prefix(Int(clamping: size))), size: size) }

    mutating func put(_ text: String, at offset: Int) { put(Array(text.utf8), at: offset) }

    mutating func put(_ value: UInt16, at offset: Int) { put([UInt8](bigEndian: UInt64(value)).suffix(2), at: offset) }

    mutating func put(_ value: UInt32, at offset: Int) { put([UInt8](bigEndian: UInt64(value)).suffix(4), at: offset) }

    mutating func put(_ value: UInt64, at offset: Int) { put([UInt8](bigEndian: value), at: offset) }

    mutating func put(_ value: some Collection<UInt8>, at offset: Int) {
        bytes.replaceSubrange(offset..<(offset + value.count), with: value)
    }
}

extension [UInt8] {
    fileprivate init(bigEndian value: UInt64) {
        self = (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(56 - 8 * $0)) }
    }
}
