// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
internal import Logging

extension Logger {
    /// Logs a sentence so that a program can word its remedies: its handler finds it in the metadata, as "sentence".
    func info(telling sentence: Sentence) {
        info("\(sentence)", metadata: ["sentence": .stringConvertible(sentence)])
    }
}
