// SPDX-License-Identifier: Apache-2.0

/// Why a request failed: a code for the client and a sentence for the log.
public struct BlockError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What kind of failure this is; decides the error number that an NBD client sees.
    public enum Code: Sendable {
        /// The answer is not in memory and the caller asked not to wait.
        case wouldBlock
        /// The system could not read or write the bytes.
        case inputOutput
        /// The image contradicts itself at this place.
        case damaged
        /// The request does not lie within the device, or is not aligned.
        case outOfRange
        /// The device does not change.
        case readOnly
        /// There is no room for what is to be written.
        case noSpace
        /// Nothing is faster than a write, which the caller did not want.
        case notSupported
    }

    /// Decides the error number that a client sees.
    public let code: Code
    /// One sentence: layer, place, reason. Holds no guest data.
    public let description: String

    private init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }

    /// Ask again on a thread that may wait.
    public static let wouldBlock = BlockError(.wouldBlock, "the answer is not in memory")

    /// Nobody opened the device for writing.
    public static let readOnly = BlockError(.readOnly, "the export is read-only")

    /// There is nothing faster than to write zeros.
    public static let notSupported = BlockError(.notSupported, "zeros cannot be made faster than by writing them")

    /// The system has no room; the sentence has its reason.
    public static func noSpace(_ description: String) -> BlockError { BlockError(.noSpace, description) }

    /// The system could not read or write; the sentence has its reason.
    public static func inputOutput(_ description: String) -> BlockError { BlockError(.inputOutput, description) }

    /// The image contradicts itself; the sentence says where.
    public static func damaged(_ description: String) -> BlockError { BlockError(.damaged, description) }

    /// The request does not fit the device.
    public static func outOfRange(_ description: String) -> BlockError { BlockError(.outOfRange, description) }
}
