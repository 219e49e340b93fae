// SPDX-License-Identifier: Apache-2.0

import SystemPackage

/// Where the bytes of a secret are, before anybody asks what they mean.
indirect enum SecretOrigin: Sendable {
    /// `size` bytes of a file from `offset` on, or all that follow. "-" is standard input.
    case file(String, offset: UInt64 = 0, size: Int? = nil)
    case descriptor(Int32)
    /// What a command of the shell prints. It is never shown: people write secrets into such lines.
    ///
    /// - number: for messages, of several; nil for the only one.
    case command(String, number: Int? = nil)
    /// A credential that the service manager has put into a file for this process, by its name.
    case credential(String)
    /// A key in the keyrings of this process.
    case keyring(KeyringKey)
    /// A secret that libvirt keeps, by its UUID.
    case libvirtSecret(String)
    /// Text on the command line that is no secret: it is encrypted.
    case ciphertext(String)
    /// What a source holds, encrypted with AES-256 in CBC mode and the key of another; without a vector, that comes first.
    case wrapped(SecretSource, key: SecretSource, vector: [UInt8]?)

    /// What follows the kind of a source in one word, as in "command:pass show disk".
    /// - Returns: nil when the kind is not known, or the rest makes no sense.
    init?(kind: Substring, place: String) {
        switch kind {
        case "passphrase-file", "key-file", "raw-key-file", "volume-key-file": self = .file(place)
        case "fd":
            guard let number = Int32(place), number >= 0 else { return nil }
            self = .descriptor(number)
        case "command": self = .command(place)
        case "credential":
            guard Self.isCredentialName(place) else { return nil }
            self = .credential(place)
        case "keyring":
            guard let key = KeyringKey(argument: place) else { return nil }
            self = .keyring(key)
        case "libvirt-secret":
            guard Self.isUUID(place) else { return nil }
            self = .libvirtSecret(place)
        default: return nil
        }
    }

    /// 32 hexadecimal digits with dashes, as libvirt writes them: an argument of virsh, and no option of it.
    static func isUUID(_ text: String) -> Bool {
        text.wholeMatch(of: /[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}/) != nil
    }

    /// Can it be the name of a file in the directory of credentials, and of nothing else?
    static func isCredentialName(_ name: String) -> Bool {
        !name.isEmpty && !name.contains("/") && !name.contains("\0") && name != "." && name != ".."
    }

    /// The same, with its path for this process.
    ///
    /// - Parameter directory: in which a relative path starts; nil: the working directory.
    func located(from directory: FilePath?) -> SecretOrigin {
        switch self {
        case .file(let path, let offset, let size) where path != "-":
            .file(PathArgument.path(path, from: directory), offset: offset, size: size)
        case .wrapped(let source, let key, let vector):
            .wrapped(source.located(from: directory), key: key.located(from: directory), vector: vector)
        default: self
        }
    }

    /// Is it standard input or behind a descriptor?
    var isReadOnce: Bool {
        switch self {
        case .file(let path, _, _): path == "-"
        case .descriptor: true
        case .wrapped(let source, let key, _): source.isReadOnce || key.isReadOnce
        case .command, .credential, .keyring, .libvirtSecret, .ciphertext: false
        }
    }

    /// Is it standard input, by either name?
    var isStandardInput: Bool { if case .descriptor(let number) = self { number == 0 } else { isReadOnce } }

    var descriptor: Int32? { if case .descriptor(let number) = self { number } else { nil } }
}
