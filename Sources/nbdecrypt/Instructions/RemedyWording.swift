// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack

/// How this program says what a person can set: with its options. The only place where sentences of libraries get them.
enum RemedyWording {
    /// The option, with its value where there is one, as the shell takes it.
    static func words(_ remedy: Remedy) -> String {
        switch remedy {
        case .writable: "--writable"
        case .repair: "--repair"
        case .allowUnlocked: "--allow-unlocked"
        case .shareWithWriters: "--force-share"
        case .overlay: "--overlay"
        case .overlayDirectory: "--overlay-dir"
        case .overlayFile: "--overlay-file"
        case .overlaySecret: "--secret overlay=passphrase-file:FILE"
        case .references(let policy): "--references \(policy)"
        case .allowReference(let path): "--allow-reference \(ShellText.quoted(path))"
        case .format(let format): option("-f", format)
        case .backingFormat(let layer, let format):
            option("--backing-format", format.map { format in layer.map { "\($0)=\(format)" } ?? format })
        case .luksHeader(let path): option("--header", path.map(ShellText.fileArgument))
        case .allowDamage: "--allow-damaged"
        case .describeImage: "nbdecrypt info"
        case .auditImage: "nbdecrypt audit"
        case .keyslot(let number): option("--key-slot", number)
        case .keyFile: "--key-file"
        case .aesKeyFile: "--raw-key-file"
        case .volumeKeyFile: "--volume-key-file"
        case .checkPassphrase: "--check-passphrase"
        case .skipPassphraseCheck: "--no-passphrase-check"
        case .allowNullCipher: "--allow-null-cipher"
        case .allowLinearSegments: "--allow-linear-segments"
        case .derivationIterations: "--max-kdf-iterations"
        case .derivationMemory: "--max-kdf-memory"
        case .derivationWork: "--max-kdf-work"
        case .derivationSeconds: "--max-kdf-seconds"
        case .exports(let names): option("--exports", names)
        case .bitmap: "--bitmap"
        case .partition(let number): option("--partition", number)
        case .logicalVolume(let name): "--logical-volume \(ShellText.quoted(name))"
        case .offset(let offset): option("--offset", offset)
        case .size(let size): option("--size", size)
        case .sectorSize(let size): option("--sector-size", size)
        case .socketPath: "--socket"
        case .address: "--bind"
        case .tcpPort: "--port"
        case .vsockPort: "--vsock"
        case .requestBytes: "--max-request"
        case .certificates: "--tls-certs"
        case .preSharedKeys: "--tls-psk"
        case .verifyPeers: "--tls-verify-peer"
        case .allowName(let name): option("--tls-allow-dn", name.map(ShellText.quoted))
        }
    }

    private static func option(_ name: String, _ value: (some CustomStringConvertible)?) -> String {
        value.map { "\(name) \($0)" } ?? name
    }
}

extension SentenceConvertible {
    /// The sentence as this program says it.
    var worded: String { sentence.worded(RemedyWording.words) }
}

extension [Remedy] {
    /// As arguments of a command, with a space before each.
    var arguments: String { map { " \(RemedyWording.words($0))" }.joined() }
}

extension DefaultStringInterpolation {
    /// What a person reads is worded by this program.
    mutating func appendInterpolation(_ value: some SentenceConvertible) { appendInterpolation(value.worded) }
}
