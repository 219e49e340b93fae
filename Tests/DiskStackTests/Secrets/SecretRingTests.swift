// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Testing

@testable import DiskStack

/// A provider whose secrets are known, and that notes what it is asked.
private final class NotedSecrets: SecretProvider {
    var given: [SecretUse: [NamedSecret]] = [:]
    var failure: OpeningError?
    private(set) var reads: [SecretUse] = []
    private(set) var questions: [String] = []

    var pinnedLayers: [Int] {
        given.keys.compactMap { if case .passphraseOfLayer(let number) = $0 { number } else { nil } }.sorted()
    }

    var names: [String] { given.values.flatMap { $0 }.map(\.name) }

    func has(_ use: SecretUse) -> Bool { given[use] != nil }

    func secrets(for use: SecretUse) throws(OpeningError) -> [NamedSecret] {
        reads.append(use)
        if let failure { throw failure }
        return given[use] ?? []
    }

    func ask(for name: String) throws(OpeningError) -> NamedSecret {
        questions.append(name)
        return secret("typed \(questions.count)")
    }
}

private func secret(_ text: String) -> NamedSecret {
    NamedSecret(
        name: text,
        secret: Array(text.utf8).withBytes { bytes in Secret(count: bytes.byteCount) { $0.copy(from: bytes) } })
}

/// What was told.
private final class Events: Sendable {
    private let texts = Locked<[String]>([])

    var all: [String] { texts.withLock { $0 } }

    func add(_ event: OpeningEvent) { texts.withLock { $0.append("\(event.kind): \(event.text)") } }
}

@Suite struct SecretRingTests {
    private let provider = NotedSecrets()
    private let events = Events()

    private var ring: SecretRing {
        SecretRing(provider, log: OpeningLog { [events] event in events.add(event) })
    }

    @Test func `a person is asked three times, and told why each time`() {
        let error = #expect(throws: OpeningError.self) {
            try ring.open("old.qcow2", own: .passphraseOfLayer(0)) { secrets in
                throw OpeningError(.wrongSecret, "\(secrets[0].name) is wrong")
            }
        }
        #expect(provider.questions == ["old.qcow2", "old.qcow2", "old.qcow2"])
        #expect(error?.isOfSecret == true)
        #expect(error?.description == "typed 3 is wrong")
        #expect(events.all == ["wrongSecret: typed 1 is wrong", "wrongSecret: typed 2 is wrong"])
    }

    @Test func `what is no matter of the secret ends the questions`() {
        let error = #expect(throws: OpeningError.self) {
            try ring.open("old.qcow2", own: .passphraseOfLayer(0)) { _ in throw OpeningError(.badImage, "it is damaged")
            }
        }
        #expect(error?.code == .badImage)
        #expect(provider.questions.count == 1)
    }

    @Test func `a passphrase that was typed for one layer is tried on the next before anybody is asked`() throws {
        let ring = ring
        try ring.open("top", own: .passphraseOfLayer(0)) { _ in }
        let names = try ring.open("base", own: .passphraseOfLayer(1)) { $0.map(\.name) }
        #expect(names == ["typed 1"])
        #expect(provider.questions == ["top"])
    }

    @Test func `secrets are read when they are needed, once, and each is tried once`() throws {
        provider.given[.passphrase] = [secret("a"), secret("b"), secret("a")]
        let ring = ring
        #expect(provider.reads.isEmpty)
        for layer in 0..<3 {
            #expect(try ring.open("x", own: .passphraseOfLayer(layer)) { $0.map(\.name) } == ["a", "b"])
        }
        #expect(provider.reads == [.passphrase])
    }

    @Test func `secrets of a layer are the only ones for it`() throws {
        provider.given = [.passphrase: [secret("a")], .passphraseOfLayer(1): [secret("b")]]
        let ring = ring
        #expect(try ring.open("x", own: .passphraseOfLayer(0)) { $0.map(\.name) } == ["a"])
        #expect(try ring.open("x", own: .passphraseOfLayer(1)) { $0.map(\.name) } == ["b"])
        #expect(try ring.open("x", own: nil) { $0.map(\.name) } == ["a"])
    }

    @Test func `secrets of the file of an overlay are the only ones for it; without any, it gets those of all`() throws
    {
        provider.given = [.passphrase: [secret("a")], .passphraseOfOverlay: [secret("b")]]
        #expect(try ring.open("x", own: .passphraseOfOverlay) { $0.map(\.name) } == ["b"])
        provider.given = [.passphrase: [secret("a")]]
        #expect(try ring.open("x", own: .passphraseOfOverlay) { $0.map(\.name) } == ["a"])
    }

    @Test func `a secret that cannot be read is not read again`() {
        provider.failure = OpeningError(.cannotOpen, "no such file")
        let ring = ring
        for _ in 0..<2 { #expect(throws: OpeningError.self) { try ring.volumeKeys() } }
        #expect(provider.reads == [.volumeKey])
    }

    @Test func `secrets for layers that are not there are refused with those that are`() throws {
        provider.given = [.passphraseOfLayer(1): [secret("a")], .passphraseOfLayer(7): [secret("b")]]
        try ring.check("top", layers: (0..<8).map { "file \($0)" })
        let error = #expect(throws: OpeningError.self) { try ring.check("top", layers: ["top", "base"]) }
        #expect(error?.code == .usage)
        #expect(
            error?.description
                == "top: a secret is given for layer 7, and there is no such layer; there are 0 (top), 1 (base)")
        let alone = #expect(throws: OpeningError.self) { try ring.check("top", layers: ["top"]) }
        #expect(alone?.description.contains("layer 1, and there is no such layer; there is 0 (top)") == true)
        provider.given = [.passphraseOfLayer(63): [secret("b")]]
        let many = #expect(throws: OpeningError.self) { try ring.check("top", layers: (0..<60).map { "\($0)" }) }
        #expect(many?.description.hasSuffix("7 (7), … up to 59") == true)
    }

    @Test func `a secret for a layer that needs none is told in a warning`() throws {
        provider.given = [.passphraseOfLayer(0): [secret("a")], .passphraseOfLayer(1): [secret("b")]]
        let ring = ring
        try ring.open("top", own: .passphraseOfLayer(0)) { _ in }
        ring.warnIfUnused()
        #expect(
            events.all == [
                "warning: the secret that is for layer 1 alone is not used: nothing in that layer has needed it"
            ])
    }

    @Test func `secrets that nothing needed are named in a warning`() throws {
        provider.given[.passphrase] = [secret("a")]
        let ring = ring
        ring.warnIfUnused()
        #expect(events.all.count == 1)
        #expect(events.all.first?.hasPrefix("warning: nothing that a could open was found") == true)
        try ring.open("x", own: .passphraseOfLayer(0)) { _ in }
        ring.warnIfUnused()
        #expect(events.all.count == 1)
    }
}
