// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import NBDServer

/// How the program ends; the numbers are those of sysexits.h.
enum ExitStatus: Int32 {
    case success = 0
    /// What an audit finds in a sound image.
    case leaks = 1
    case usage = 64
    case badImage = 65
    case cannotOpen = 66
    case internalError = 70
    /// A report has found no room, or no reader.
    case cannotWrite = 74
    case wrongPassphrase = 77

    /// For `--help`.
    static let explanation = """
        Exit status: 0 fine, 1 leaks found by audit, 64 wrong usage, 65 bad image, 66 a file or socket cannot be opened, 70 internal error, \
        74 a report cannot be written, 77 wrong or missing passphrase; with --run that of the command.
        """
}

/// Why the program ends early: a status and one sentence.
struct Failure: Error, CustomStringConvertible {
    let status: ExitStatus
    let description: String
    /// Another secret may open what this one does not.
    let isOfSecret: Bool

    init(_ status: ExitStatus, _ description: String) {
        self.init(status, description, isOfSecret: status == .wrongPassphrase)
    }

    private init(_ status: ExitStatus, _ description: String, isOfSecret: Bool) {
        self.status = status
        self.description = description
        self.isOfSecret = isOfSecret
    }

    /// An image cannot be opened.
    init(_ error: FormatError, image: String) {
        if error.code == .unreadable, let url = ImageURL(image) {
            self.init(.cannotOpen, url.refusal)
            return
        }
        let status: ExitStatus =
            switch error.code {
            case .unreadable, .inUse: .cannotOpen
            case .damaged, .unsupported, .notRecognised: .badImage
            }
        self.init(status, "\(image): \(error)")
    }

    /// A container cannot be unlocked.
    init(_ error: UnlockError, image: String) {
        let status: ExitStatus =
            switch error.code {
            case .wrongSecret: .wrongPassphrase
            case .refused, .notAllTried: .badImage
            case .usage: .usage
            }
        self.init(status, "\(image): \(error)", isOfSecret: error.code == .wrongSecret || error.code == .notAllTried)
    }
}
