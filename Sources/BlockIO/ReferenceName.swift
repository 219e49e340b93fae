// SPDX-License-Identifier: Apache-2.0

public import SystemPackage

/// What the name of a file in an image means to QEMU, when it means a plain file.
///
/// There are paths; paths behind "file:"; and descriptions in JSON of a file, or of a format over a file. A relative path of
/// the latter two starts in the directory in which QEMU runs, which nobody knows later: here all start in the directory of
/// the image, where the file is looked for by everybody else.
public struct ReferenceName: Equatable, Sendable {
    /// The file; relative ones start in the directory of the image.
    public let path: FilePath
    /// The format that the description says, as QEMU calls it; nil: it says none.
    public let format: String?

    /// Why a name is not followed.
    public struct Refusal: Error, Equatable {
        /// Follows the name in a sentence, e.g. "is not a file but reached by a protocol, which is never opened".
        public let reason: String
        /// What helps.
        public let help: Help
    }

    /// What helps.
    public enum Help: Equatable, Sendable {
        /// QEMU can read what is meant, and copy it to a file that can be named.
        case copy
        /// The same file can be named plainly.
        case rename(path: String, format: String?)
        /// Nobody can read it: the file has to get a name that can be said.
        case newName
    }

    /// Names are not longer for QEMU, in bytes.
    static let maximumLength = 1023

    /// The name of an external data file. There, QEMU took what looks like a protocol or JSON for one up to version 9.0, and
    /// for a part of the file's name since, so that such a name has no one meaning.
    /// - Throws: ``Refusal``.
    public init(ofDataFile reference: FileReference) throws(Refusal) {
        let start = reference.bytes.prefix { $0 != UInt8(ascii: "/") }
        guard !start.contains(UInt8(ascii: ":")) else {
            throw Refusal(
                reason:
                    "has a name that is a protocol or JSON to some versions of QEMU and a file to others, which is never "
                    + "opened", help: .newName)
        }
        self.init(path: try Self.path(reference.bytes), format: nil)
    }

    /// The name of a backing file.
    /// - Throws: ``Refusal`` for what is no plain file, or has a name that cannot be shown.
    public init(_ reference: FileReference) throws(Refusal) {
        let bytes = reference.bytes
        if bytes.starts(with: Array("json:".utf8)) {
            self = try Self.description(Array(bytes.dropFirst(5)))
            return
        }
        // To QEMU, anything before a colon is a protocol if no slash comes before.
        guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")), !bytes[..<colon].contains(UInt8(ascii: "/")) else {
            self.init(path: try Self.path(bytes), format: nil)
            return
        }
        // A URL of a file on this machine; to QEMU, which cuts off "file:", the same.
        let isOther =
            bytes[colon...].starts(with: Array("://".utf8)) && !bytes[colon...].starts(with: Array(":///".utf8))
        guard bytes[..<colon].elementsEqual("file".utf8), !isOther else {
            throw Refusal(reason: "is not a file but reached by a protocol, which is never opened", help: .copy)
        }
        self.init(path: try Self.path(Array(bytes[(colon + 1)...])), format: nil)
    }

    private init(path: FilePath, format: String?) {
        self.path = path
        self.format = format
    }

    private static func path(_ bytes: [UInt8]) throws(Refusal) -> FilePath {
        guard !bytes.isEmpty, !bytes.contains(0) else {
            throw Refusal(reason: "has no usable name: it is empty or has a NUL byte", help: .newName)
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Refusal(reason: "has a name that is not UTF-8", help: .newName)
        }
        // The path is part of messages and of what clients are told.
        guard bytes.count <= maximumLength, ShownText.printable(text, maximumLength: maximumLength) == text else {
            throw Refusal(reason: "has a name that cannot be shown, or a very long one", help: .newName)
        }
        return FilePath(text)
    }

    // MARK: JSON

    /// Options that change how a file is opened, but not what is read of it.
    private static let harmless: Set<String> = [
        "node-name", "read-only", "auto-read-only", "discard", "detect-zeroes", "locking", "aio", "cache",
        "cache.direct",
        "cache.no-flush",
    ]
    /// Options that say where the secret of an encrypted format is, which the caller says otherwise.
    private static let secrets: Set<String> = [
        "key-secret", "encrypt", "encrypt.format", "encrypt.key-secret",
    ]
    private static let fileDrivers: Set<String> = ["file", "host_device"]

    private static func description(_ text: [UInt8]) throws(Refusal) -> ReferenceName {
        let members: [String: JSONValue]
        do { members = try StrictJSON.read(text: text) } catch {
            throw Refusal(
                reason:
                    "is a description in JSON that cannot be read (at its byte \(error.position) is \(error.found), "
                    + "allowed is \(error.allowed))", help: .copy)
        }
        var options = try flattened(members)
        func take(_ name: String) throws(Refusal) -> String? {
            guard let value = options.removeValue(forKey: name) else { return nil }
            guard case .string(let text) = value else { throw other("\(ShownText.quoted(name)) is no text") }
            return text
        }
        let driver = try take("driver")
        // A file as it is: its driver stands for a format, that of a plain disk.
        let isFile = driver.map(fileDrivers.contains) ?? false
        let prefix = isFile ? "" : "file."
        if !isFile, let inner = try take("file.driver"), !fileDrivers.contains(inner) {
            throw other("the driver \(ShownText.quoted(inner)) of its file is none of a plain file")
        }
        guard let filename = try take("\(prefix)filename") else {
            throw other("it has no text \(ShownText.quoted("\(prefix)filename"))")
        }
        for name in options.keys where harmless.contains(name) || !isFile && harmless.contains(after: "file.", name) {
            options[name] = nil
        }
        let path = try path(Array(filename.utf8))
        guard let option = options.keys.sorted().first else { return ReferenceName(path: path, format: driver) }
        let isAboutSecrets = options.keys.allSatisfy(secrets.contains)
        throw Refusal(
            reason: other("the option \(ShownText.quoted(option)) is not known here").reason,
            help: isAboutSecrets ? .rename(path: filename, format: driver) : .copy)
    }

    private static func other(_ why: String) -> Refusal {
        Refusal(
            reason: "is a description in JSON of something other than a plain file, which is never opened: \(why)",
            help: .copy)
    }

    /// The options as QEMU sees them: {"file": {"driver": "x"}} and {"file.driver": "x"} are the same. The reader of JSON
    /// bounds how deep they are.
    private static func flattened(_ members: [String: JSONValue]) throws(Refusal) -> [String: JSONValue] {
        var options: [String: JSONValue] = [:]
        for (name, value) in members {
            var parts = [name: value]
            if case .object(let inner) = value {
                parts = [:]
                for (key, value) in try flattened(inner) { parts["\(name).\(key)"] = value }
            }
            for (name, value) in parts where options.updateValue(value, forKey: name) != nil {
                throw other("the option \(ShownText.quoted(name)) is given twice")
            }
        }
        return options
    }
}

extension Set<String> {
    /// Is `name` one of these with `prefix` in front?
    fileprivate func contains(after prefix: String, _ name: String) -> Bool {
        name.hasPrefix(prefix) && contains(String(name.dropFirst(prefix.count)))
    }
}
