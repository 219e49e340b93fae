// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack

/// How the program ends; the numbers are those of sysexits.h.
enum ExitStatus: Int32 {
    case success = 0
    /// What an audit finds in a sound image.
    case leaks = 1
    /// A copy lacks what could not be read.
    case incomplete = 2
    case usage = 64
    case badImage = 65
    case cannotOpen = 66
    case internalError = 70
    /// A report has found no room, or no reader; a copy cannot be made; or what clients have written is not all on disk.
    case cannotWrite = 74
    case wrongPassphrase = 77

    /// For `--help`.
    static let explanation = """
        Exit status: 0 fine, 1 leaks found by audit, 2 a copy that lacks what could not be read, 64 wrong usage, 65 bad image, 66 a file or socket cannot be opened, 70 internal error, \
        74 a report, a copy, or what clients have written, cannot be written, 77 wrong or missing passphrase, \
        129 ended by SIGHUP, 130 by SIGINT (ctrl-C), 143 by SIGTERM; with --run that of the command.
        """
}

/// Why the program ends early: a status and one sentence.
struct Failure: Error, CustomStringConvertible {
    let status: ExitStatus
    let description: String

    init(_ status: ExitStatus, _ description: String) {
        self.status = status
        self.description = description
    }

    /// An image cannot be opened.
    init(_ error: OpeningError) {
        let status: ExitStatus =
            switch error.code {
            case .usage: .usage
            case .badImage: .badImage
            case .cannotOpen: .cannotOpen
            case .wrongSecret: .wrongPassphrase
            }
        self.init(status, error.worded)
    }

    /// An image, or another file, cannot be opened.
    init(_ error: FormatError, image: String) { self.init(OpeningError(error, image: image)) }
}
