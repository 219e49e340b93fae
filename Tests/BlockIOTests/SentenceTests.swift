// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing

/// Sentences for people, and what they advise.
@Suite struct SentenceTests {
    private static func words(_ remedy: Remedy) -> String {
        switch remedy {
        case .writable: "--w"
        case .partition(let number): "-p \(number ?? 0)"
        default: "?"
        }
    }

    @Test func `remedies are worded where they stand in the text`() {
        let sentence: Sentence = "it is \(3) bytes; leave \(remedy: .writable) out, or add \(remedy: .partition(2))"
        #expect(sentence.worded(Self.words) == "it is 3 bytes; leave --w out, or add -p 2")
        #expect(sentence.description == "it is 3 bytes; leave isWritable out, or add partition 2")
        #expect(sentence.remedies == [.writable, .partition(2)])
    }

    @Test func `a sentence in a sentence keeps its remedies, under whatever type it is thrown`() {
        let inner = FormatError.unsupported("no; add \(remedy: .writable)").naming("layer 1")
        let caught: any Error = inner
        let outer: Sentence = "disk: \(inner), and \(caught)"
        #expect(outer.worded(Self.words) == "disk: layer 1: no; add --w, and layer 1: no; add --w")
        #expect("\(inner)" == "layer 1: no; add isWritable")
    }

    @Test func `sentences that say the same are equal, however they were put together`() {
        let (one, two): (Sentence, Sentence) = ("a\("b")\("")c", "ab" + "c")
        #expect(one == two && one == Sentence("abc"))
        #expect(one != "ab\(remedy: .writable)")
        #expect(Sentence("").isEmpty && !one.isEmpty)
    }

    @Test func `several sentences become one`() {
        let all: [Sentence] = ["a", "b \(remedy: .writable)", "c"]
        #expect(all.joined(separator: "; ").worded(Self.words) == "a; b --w; c")
        #expect([Sentence]().joined(separator: "; ").isEmpty)
    }
}
