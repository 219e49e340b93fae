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
        /// A source far away has not answered in time. What was to be changed may be, now or later.
        case timedOut
        /// The way to a source far away is interrupted. What was to be changed may be.
        case disconnected
        /// The source is another one than when it was opened: nothing is read from it any more.
        case changed
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

    /// What was read before and what would be read now do not belong together.
    public static let changed = BlockError(
        .changed, "source: it has been replaced or changed since it was opened; open it anew")

    /// No answer in time; the sentence says to what.
    public static func timedOut(_ description: String) -> BlockError { BlockError(.timedOut, description) }

    /// No connection; the sentence has the reason.
    public static func disconnected(_ description: String) -> BlockError { BlockError(.disconnected, description) }

    /// The system has no room; the sentence has its reason.
    public static func noSpace(_ description: String) -> BlockError { BlockError(.noSpace, description) }

    /// The system could not read or write; the sentence has its reason.
    public static func inputOutput(_ description: String) -> BlockError { BlockError(.inputOutput, description) }

    /// The image contradicts itself; the sentence says where.
    public static func damaged(_ description: String) -> BlockError { BlockError(.damaged, description) }

    /// The request does not fit the device.
    public static func outOfRange(_ description: String) -> BlockError { BlockError(.outOfRange, description) }
}
