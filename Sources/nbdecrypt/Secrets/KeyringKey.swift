// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import CLinux
import Crypto
import DiskStack
import Glibc
import SystemPackage

/// A key of the kernel, by type and description: keyrings(7). cryptsetup writes both in the same way.
struct KeyringKey: ExpressibleByArgument, Equatable {
    let type: String
    let description: String

    /// Types whose contents the kernel gives out.
    private static let readable = ["user", "big_key"]

    /// "DESCRIPTION", of a key of type "user", or "%TYPE:DESCRIPTION".
    init?(argument: String) {
        if argument.hasPrefix("%") {
            guard let colon = argument.firstIndex(of: ":") else { return nil }
            type = String(argument[argument.index(after: argument.startIndex)..<colon])
            description = String(argument[argument.index(after: colon)...])
        } else {
            (type, description) = ("user", argument)
        }
        guard !type.isEmpty, !description.isEmpty, !argument.contains("\0") else { return nil }
    }

    /// As it is given.
    var shown: String {
        ShownText.printable(type == "user" ? description : "%\(type):\(description)", maximumLength: 255)
    }

    /// The bytes of the key, straight into protected memory.
    ///
    /// - Parameter name: for messages.
    /// - Throws: ``OpeningError``.
    func read(_ name: String) throws(OpeningError) -> Secret {
        try checkType(name)
        let key = unsafe linux_find_key(type, description)
        guard key >= 0 else {
            let error = Errno(rawValue: errno)
            guard unsafe linux_find_key("logon", description) < 0 else { throw ofLogon(name) }
            throw refusal(error, name)
        }
        // It can become longer between two looks.
        while true {
            let count = linux_read_key(key, nil, 0)
            guard count >= 0 else { throw refusal(Errno(rawValue: errno), name) }
            guard count <= Secret.maximumCount else {
                throw OpeningError(
                    .wrongSecret, "\(name) holds more than \(Secret.maximumCount) bytes; is it the right key?")
            }
            var found = 0
            let secret = Secret(count: count) { span in
                found = unsafe span.withUnsafeMutableBytes { unsafe linux_read_key(key, $0.baseAddress, $0.count) }
            }
            guard found >= 0 else { throw refusal(Errno(rawValue: errno), name) }
            if found <= count { return found == count ? secret : secret.prefix(found) }
        }
    }

    private func checkType(_ name: String) throws(OpeningError) {
        guard !Self.readable.contains(type) else { return }
        throw type == "logon"
            ? ofLogon(name)
            : OpeningError(.cannotOpen, "\(name): the type is \(ShownText.quoted(type)), allowed is \(Self.allowed)")
    }

    private static let allowed = "type user (`keyctl padd user NAME @s` takes its bytes from standard input) or big_key"

    private func ofLogon(_ name: String) -> OpeningError {
        OpeningError(
            .cannotOpen,
            "\(name) is of type logon, whose contents the kernel shows to no program; add the same secret as \(Self.allowed)"
        )
    }

    private func refusal(_ error: Errno, _ name: String) -> OpeningError {
        let reason: Sentence =
            switch error.rawValue {
            case ENOKEY:
                "no such key is in the keyrings of this process, session and user; `keyctl show` lists them, and `sudo` and services have others"
            case EKEYEXPIRED: "it has expired; add it again"
            case EKEYREVOKED: "it has been revoked; add it again"
            case EACCES:
                "it may not be read from here; link the keyring that it is in to that of the session: `keyctl link @u @s`"
            case EPERM, ENOSYS: "the system does not let this program use keyrings (\(error)), as in many containers"
            default: "\(error)"
            }
        return OpeningError(.cannotOpen, "\(name) cannot be read: \(reason)")
    }
}
