// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import Logging

/// Log lines for a person at a terminal or for the journal, which adds the time itself. Nobody waits for their reader.
struct StandardErrorLog: LogHandler {
    var logLevel: Logger.Level = .notice
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// A logger; 0 shows notices and worse, 1 also information, 2 everything.
    static func make(verbosity: Int) -> Logger {
        var handler = StandardErrorLog()
        handler.logLevel = [.notice, .info, .debug][min(max(verbosity, 0), 2)]
        let configured = handler
        return Logger(label: "nbdecrypt") { _ in configured }
    }

    func log(event: LogEvent) {
        let level = event.level > .notice ? "\(event.level): " : ""
        let client = metadata["client"].map { "client \($0): " } ?? ""
        let message =
            switch event.metadata?["sentence"] {
            case .stringConvertible(let sentence as Sentence)?: sentence.worded
            default: "\(event.message)"
            }
        Process.printError("\(level)\(client)\(message)")
    }
}

extension Logger {
    /// For those who open images.
    var opening: OpeningLog {
        OpeningLog { event in
            let level: Level =
                switch event.kind {
                case .detail: .debug
                case .finding: .info
                case .notice: .notice
                case .warning: .warning
                case .wrongSecret: .error
                }
            log(level: level, "\(event.sentence.worded)")
        }
    }
}
