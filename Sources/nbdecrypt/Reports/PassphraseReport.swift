// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack

/// What `info --check-passphrase` says of the secrets that were given.
struct PassphraseReport: Encodable {
    struct Outcome: Encodable {
        /// The source of the secret, never its contents.
        let source: String
        /// Does it open the image? Nil: the image does not tell.
        let fits: Bool?
        /// The keyslots that it opens; LUKS only.
        let keyslots: [Int]?
        /// Why it fits or not, and keyslots that could not be tried.
        let notes: [String]
    }

    let outcomes: [Outcome]
    let mayFit: Bool
    let untried: [String]
    /// What to do when nothing fits; nil when something may.
    let advice: String?

    init(_ check: PassphraseCheck) {
        outcomes = check.outcomes.map { outcome in
            Outcome(
                source: outcome.source, fits: outcome.fits, keyslots: outcome.keyslots,
                notes: outcome.notes.map(\.worded))
        }
        mayFit = check.mayFit
        untried = check.untried.map(\.worded)
        advice = check.mayFit ? nil : check.advice.worded
    }

    /// Lines for people.
    var lines: [String] {
        outcomes.flatMap { outcome in
            let slots = outcome.keyslots.map { $0.map(String.init).joined(separator: ", ") } ?? ""
            let verdict =
                switch (outcome.fits, slots.isEmpty) {
                case (true?, false): "opens keyslot \(slots)"
                case (true?, true): "fits"
                case (nil, _): "cannot be judged"
                case (false?, false): "opens keyslot \(slots), but not the data"
                case (false?, true) where outcome.keyslots == nil: "does not fit"
                case (false?, true): untried.isEmpty ? "opens no keyslot" : "opens no keyslot that was tried"
                }
            return ["\(outcome.source) \(verdict)"] + outcome.notes.map { "  \($0)" }
        }
    }
}
