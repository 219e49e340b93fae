// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats
import SystemPackage

/// Opens one legacy AES image with its passphrase and with many others and prints what the content check says:
/// one line of fields separated by tabs.
@main
enum Measure {
    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 4, let wrongCount = Int(arguments[3]) else {
            print("usage: measure IMAGE PASSPHRASE NUMBER-OF-WRONG-PASSPHRASES")
            return
        }
        let (image, right) = (FilePath(arguments[1]), arguments[2])
        let clock = ContinuousClock()
        var check: ContentCheck?
        let rightTime = try clock.measure { check = try examine(image, right) }
        guard let check else { return }

        var counts: [ContentCheck.Verdict: Int] = [:]
        var example = ""
        let wrongTime = try clock.measure {
            for index in 0..<wrongCount {
                let wrong = try examine(image, wrongPassphrase(index, right))
                counts[wrong.verdict, default: 0] += 1
                if example.isEmpty || wrong.verdict == .plausible { example = wrong.summary }
            }
        }
        let fields = [
            image.lastComponent?.string ?? "", "\(check.verdict)", check.summary, milliseconds(rightTime),
            "\(counts[.plausible, default: 0])", "\(counts[.implausible, default: 0])",
            "\(counts[.cannotTell, default: 0])", example, milliseconds(wrongTime / max(1, wrongCount)),
        ]
        print(fields.joined(separator: "\t"))
    }

    /// Small mistakes first, then other words.
    static func wrongPassphrase(_ index: Int, _ right: String) -> String {
        let mistakes = [
            right + "\n", right.uppercased(), String(right.dropLast()), String(right.dropFirst()), " " + right, "",
        ]
        return index < mistakes.count ? mistakes[index] : "wrong \(index)"
    }

    static func examine(_ path: FilePath, _ passphrase: String) throws -> ContentCheck {
        let file = try FileDevice(path: path, excludesWriters: false)
        guard let header = try Qcow2Header(device: file) else { throw FormatError.notRecognised("not qcow2") }
        let bytes = Array(passphrase.utf8)
        let secret = bytes.withBytes { bytes in Secret(count: bytes.byteCount) { $0.copy(from: bytes) } }
        let cipher = LegacyAESCipher(key: LegacyAESKey.derive(from: secret))
        return ContentCheck.examine(Qcow2Image(file: file, header: header, cipher: cipher))
    }

    static func milliseconds(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        return "\(seconds * 1000 + attoseconds / 1_000_000_000_000_000)"
    }
}
