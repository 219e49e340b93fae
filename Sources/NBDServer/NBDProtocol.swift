// SPDX-License-Identifier: Apache-2.0

/// Constants of the NBD protocol; names of the specification (doc/proto.md) in the comments.
enum NBDProtocol {
    /// `NBDMAGIC`: the first eight bytes of a connection.
    static let initMagic: UInt64 = 0x4E42_444D_4147_4943
    /// `IHAVEOPT`: newstyle negotiation, and the start of every option.
    static let optionMagic: UInt64 = 0x4948_4156_454F_5054
    /// Start of every reply to an option.
    static let optionReplyMagic: UInt64 = 0x0003_E889_0455_65A9
    /// `NBD_REQUEST_MAGIC`.
    static let requestMagic: UInt32 = 0x2560_9513
    /// `NBD_SIMPLE_REPLY_MAGIC`.
    static let simpleReplyMagic: UInt32 = 0x6744_6698

    /// The longest name or text, in bytes.
    static let maximumStringLength = 4096

    /// Handshake flags, sent by the server.
    enum HandshakeFlags {
        /// `NBD_FLAG_FIXED_NEWSTYLE`
        static let fixedNewstyle: UInt16 = 1 << 0
        /// `NBD_FLAG_NO_ZEROES`
        static let noZeroes: UInt16 = 1 << 1
    }

    /// Client flags: `NBD_FLAG_C_FIXED_NEWSTYLE`, `NBD_FLAG_C_NO_ZEROES`.
    struct ClientFlags: OptionSet {
        let rawValue: UInt32
        static let fixedNewstyle = ClientFlags(rawValue: 1 << 0)
        static let noZeroes = ClientFlags(rawValue: 1 << 1)
        static let known: ClientFlags = [.fixedNewstyle, .noZeroes]
    }

    /// Option types that this server answers.
    enum Option: UInt32 {
        /// `NBD_OPT_EXPORT_NAME`
        case exportName = 1
        /// `NBD_OPT_ABORT`
        case abort = 2
        /// `NBD_OPT_LIST`
        case list = 3
        /// `NBD_OPT_INFO`
        case info = 6
        /// `NBD_OPT_GO`
        case go = 7
    }

    /// Option reply types.
    enum OptionReply: UInt32 {
        /// `NBD_REP_ACK`
        case ack = 1
        /// `NBD_REP_SERVER`
        case server = 2
        /// `NBD_REP_INFO`
        case info = 3
        /// `NBD_REP_ERR_UNSUP`
        case unsupported = 0x8000_0001
        /// `NBD_REP_ERR_INVALID`
        case invalid = 0x8000_0003
        /// `NBD_REP_ERR_UNKNOWN`
        case unknownExport = 0x8000_0006
        /// `NBD_REP_ERR_TOO_BIG`
        case tooBig = 0x8000_0009
    }

    /// Information types of `NBD_REP_INFO`.
    enum Info: UInt16 {
        /// `NBD_INFO_EXPORT`
        case export = 0
        /// `NBD_INFO_NAME`
        case name = 1
        /// `NBD_INFO_DESCRIPTION`
        case description = 2
        /// `NBD_INFO_BLOCK_SIZE`
        case blockSize = 3
    }

    /// Transmission flags, per export.
    enum TransmissionFlags {
        /// `NBD_FLAG_HAS_FLAGS`
        static let hasFlags: UInt16 = 1 << 0
        /// `NBD_FLAG_READ_ONLY`
        static let readOnly: UInt16 = 1 << 1
        /// `NBD_FLAG_SEND_FLUSH`
        static let sendFlush: UInt16 = 1 << 2
        /// `NBD_FLAG_CAN_MULTI_CONN`
        static let canMultiConn: UInt16 = 1 << 8
    }

    /// Request types.
    enum Command: UInt16 {
        /// `NBD_CMD_READ`
        case read = 0
        /// `NBD_CMD_WRITE`; its payload follows the request.
        case write = 1
        /// `NBD_CMD_DISC`
        case disconnect = 2
        /// `NBD_CMD_FLUSH`
        case flush = 3
        /// `NBD_CMD_TRIM`
        case trim = 4
        /// `NBD_CMD_WRITE_ZEROES`
        case writeZeroes = 6
    }

    /// Error values of a reply.
    enum ErrorNumber: UInt32 {
        /// No error.
        case none = 0
        /// `NBD_EPERM`
        case notPermitted = 1
        /// `NBD_EIO`
        case inputOutput = 5
        /// `NBD_EINVAL`
        case invalid = 22
    }
}
