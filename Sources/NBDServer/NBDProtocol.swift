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
    /// `NBD_EXTENDED_REQUEST_MAGIC`.
    static let extendedRequestMagic: UInt32 = 0x21E4_1C71
    /// `NBD_SIMPLE_REPLY_MAGIC`.
    static let simpleReplyMagic: UInt32 = 0x6744_6698
    /// `NBD_STRUCTURED_REPLY_MAGIC`.
    static let structuredReplyMagic: UInt32 = 0x668E_33EF
    /// `NBD_EXTENDED_REPLY_MAGIC`.
    static let extendedReplyMagic: UInt32 = 0x6E8A_278C

    /// The longest name or text, in bytes.
    static let maximumStringLength = 4096

    /// The specification's handshake flags, sent by the server.
    enum NegotiationFlags {
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
        /// `NBD_OPT_STARTTLS`
        case startTLS = 5
        /// `NBD_OPT_INFO`
        case info = 6
        /// `NBD_OPT_GO`
        case go = 7
        /// `NBD_OPT_STRUCTURED_REPLY`
        case structuredReply = 8
        /// `NBD_OPT_LIST_META_CONTEXT`
        case listMetaContext = 9
        /// `NBD_OPT_SET_META_CONTEXT`
        case setMetaContext = 10
        /// `NBD_OPT_EXTENDED_HEADERS`
        case extendedHeaders = 11

        /// As the specification calls it; its number for one that this server does not know.
        static func name(_ number: UInt32) -> String {
            switch Option(rawValue: number) {
            case .exportName: "NBD_OPT_EXPORT_NAME"
            case .abort: "NBD_OPT_ABORT"
            case .list: "NBD_OPT_LIST"
            case .startTLS: "NBD_OPT_STARTTLS"
            case .info: "NBD_OPT_INFO"
            case .go: "NBD_OPT_GO"
            case .structuredReply: "NBD_OPT_STRUCTURED_REPLY"
            case .listMetaContext: "NBD_OPT_LIST_META_CONTEXT"
            case .setMetaContext: "NBD_OPT_SET_META_CONTEXT"
            case .extendedHeaders: "NBD_OPT_EXTENDED_HEADERS"
            case nil: "option \(number)"
            }
        }
    }

    /// Option reply types.
    enum OptionReply: UInt32 {
        /// `NBD_REP_ACK`
        case ack = 1
        /// `NBD_REP_SERVER`
        case server = 2
        /// `NBD_REP_INFO`
        case info = 3
        /// `NBD_REP_META_CONTEXT`
        case metaContext = 4
        /// `NBD_REP_ERR_UNSUP`: the option is not known.
        case unsupported = 0x8000_0001
        /// `NBD_REP_ERR_POLICY`: the operator does not want it.
        case policy = 0x8000_0002
        /// `NBD_REP_ERR_INVALID`: the option does not make sense, or not now.
        case invalid = 0x8000_0003
        /// `NBD_REP_ERR_TLS_REQD`: only after `NBD_OPT_STARTTLS`.
        case tlsRequired = 0x8000_0005
        /// `NBD_REP_ERR_UNKNOWN`: there is no such export.
        case unknownExport = 0x8000_0006
        /// `NBD_REP_ERR_SHUTDOWN`: the server stops.
        case shutdown = 0x8000_0007
        /// `NBD_REP_ERR_BLOCK_SIZE_REQD`: only for clients that ask for the block sizes.
        case blockSizeRequired = 0x8000_0008
        /// `NBD_REP_ERR_TOO_BIG`: the request or the reply is too large.
        case tooBig = 0x8000_0009
        /// `NBD_REP_ERR_EXT_HEADER_REQD`: extended headers are in use, which leave no room for this.
        case extendedHeadersRequired = 0x8000_000A

        /// As the specification calls it.
        var name: String {
            switch self {
            case .ack: "NBD_REP_ACK"
            case .server: "NBD_REP_SERVER"
            case .info: "NBD_REP_INFO"
            case .metaContext: "NBD_REP_META_CONTEXT"
            case .unsupported: "NBD_REP_ERR_UNSUP"
            case .policy: "NBD_REP_ERR_POLICY"
            case .invalid: "NBD_REP_ERR_INVALID"
            case .tlsRequired: "NBD_REP_ERR_TLS_REQD"
            case .unknownExport: "NBD_REP_ERR_UNKNOWN"
            case .shutdown: "NBD_REP_ERR_SHUTDOWN"
            case .blockSizeRequired: "NBD_REP_ERR_BLOCK_SIZE_REQD"
            case .tooBig: "NBD_REP_ERR_TOO_BIG"
            case .extendedHeadersRequired: "NBD_REP_ERR_EXT_HEADER_REQD"
            }
        }
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
    struct TransmissionFlags: OptionSet {
        let rawValue: UInt16
        /// `NBD_FLAG_HAS_FLAGS`
        static let hasFlags = TransmissionFlags(rawValue: 1 << 0)
        /// `NBD_FLAG_READ_ONLY`
        static let readOnly = TransmissionFlags(rawValue: 1 << 1)
        /// `NBD_FLAG_SEND_FLUSH`
        static let sendFlush = TransmissionFlags(rawValue: 1 << 2)
        /// `NBD_FLAG_SEND_FUA`
        static let sendFUA = TransmissionFlags(rawValue: 1 << 3)
        /// `NBD_FLAG_SEND_TRIM`
        static let sendTrim = TransmissionFlags(rawValue: 1 << 5)
        /// `NBD_FLAG_SEND_WRITE_ZEROES`
        static let sendWriteZeroes = TransmissionFlags(rawValue: 1 << 6)
        /// `NBD_FLAG_SEND_DF`
        static let sendDF = TransmissionFlags(rawValue: 1 << 7)
        /// `NBD_FLAG_CAN_MULTI_CONN`
        static let canMultiConn = TransmissionFlags(rawValue: 1 << 8)
        /// `NBD_FLAG_SEND_CACHE`
        static let sendCache = TransmissionFlags(rawValue: 1 << 10)
        /// `NBD_FLAG_SEND_FAST_ZERO`
        static let sendFastZero = TransmissionFlags(rawValue: 1 << 11)
        /// `NBD_FLAG_BLOCK_STATUS_PAYLOAD`
        static let blockStatusPayload = TransmissionFlags(rawValue: 1 << 12)
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
        /// `NBD_CMD_CACHE`
        case cache = 5
        /// `NBD_CMD_WRITE_ZEROES`
        case writeZeroes = 6
        /// `NBD_CMD_BLOCK_STATUS`
        case blockStatus = 7

        /// Does it need an export that is writable?
        var changesBytes: Bool {
            switch self {
            case .write, .trim, .writeZeroes: true
            case .read, .disconnect, .flush, .cache, .blockStatus: false
            }
        }
    }

    /// Command flags.
    struct CommandFlags: OptionSet {
        let rawValue: UInt16
        /// `NBD_CMD_FLAG_FUA`
        static let fua = CommandFlags(rawValue: 1 << 0)
        /// `NBD_CMD_FLAG_NO_HOLE`
        static let noHole = CommandFlags(rawValue: 1 << 1)
        /// `NBD_CMD_FLAG_DF`
        static let dontFragment = CommandFlags(rawValue: 1 << 2)
        /// `NBD_CMD_FLAG_REQ_ONE`
        static let requestOne = CommandFlags(rawValue: 1 << 3)
        /// `NBD_CMD_FLAG_FAST_ZERO`
        static let fastZero = CommandFlags(rawValue: 1 << 4)
        /// `NBD_CMD_FLAG_PAYLOAD_LEN`
        static let payloadLength = CommandFlags(rawValue: 1 << 5)
    }

    /// Types of the chunks of a structured reply.
    enum ChunkType: UInt16 {
        /// `NBD_REPLY_TYPE_NONE`
        case none = 0
        /// `NBD_REPLY_TYPE_OFFSET_DATA`
        case offsetData = 1
        /// `NBD_REPLY_TYPE_OFFSET_HOLE`
        case offsetHole = 2
        /// `NBD_REPLY_TYPE_BLOCK_STATUS`
        case blockStatus = 5
        /// `NBD_REPLY_TYPE_BLOCK_STATUS_EXT`
        case blockStatusExtended = 6
        /// `NBD_REPLY_TYPE_ERROR`
        case error = 0x8001
        /// `NBD_REPLY_TYPE_ERROR_OFFSET`
        case errorOffset = 0x8002
    }

    /// `NBD_REPLY_FLAG_DONE`: the last chunk of a reply.
    static let replyFlagDone: UInt16 = 1 << 0

    /// Status flags of the context "base:allocation".
    enum StatusFlags {
        /// `NBD_STATE_HOLE`
        static let hole: UInt32 = 1 << 0
        /// `NBD_STATE_ZERO`
        static let zero: UInt32 = 1 << 1
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
        /// `NBD_ENOSPC`
        case noSpace = 28
        /// `NBD_EOVERFLOW`
        case overflow = 75
        /// `NBD_ENOTSUP`
        case notSupported = 95
        /// `NBD_ESHUTDOWN`
        case shutdown = 108
    }
}
