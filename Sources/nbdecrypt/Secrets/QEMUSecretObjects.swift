// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import FoundationEssentials

/// Secrets as QEMU's `--object secret,…` names them: files, as bytes or in base64, perhaps encrypted with the key that another
/// one holds; and as libvirt keeps them in files. Source: qemu(1), "Secret data" and the objects of type secret;
/// libvirt.org, "Secret storage and encryption", and what libvirt 12.8 writes.
struct QEMUSecretObjects {
    /// Those that are not the key of others, in their order.
    let sources: [SecretSource]

    /// An object as it is written.
    private struct Object {
        let id: String
        let file: String?
        /// Encrypted, in base64.
        let data: String?
        let form: SecretForm
        let keyID: String?
        let vector: [UInt8]?

        init(_ argument: String) throws {
            let values = try argument.hasPrefix("{") ? Self.members(argument) : Self.properties(argument)
            guard let id = values["id"], !argument.contains("\0") else {
                throw ValidationError("--object secret takes an id=.")
            }
            let name = ShownText.quoted(id)
            switch values["format"] {
            case nil, "raw": form = .bytes
            case "base64": form = .base64
            default: throw ValidationError("--object secret \(name): format= is raw or base64.")
            }
            (self.id, keyID, file, data) = (id, values["keyid"], values["file"], values["data"])
            guard (file == nil) != (data == nil) else {
                throw ValidationError("--object secret \(name) takes either file= or data=.")
            }
            guard data == nil || keyID != nil && form == .base64 else {
                throw ValidationError(
                    "--object secret \(name): data= on the command line can be seen by everybody; write it to a file and "
                        + "give file=. With keyid=, iv= and format=base64 it is encrypted, and allowed.")
            }
            vector = values["iv"].flatMap { Data(base64Encoded: $0) }.map(Array.init)
            // QEMU wants an iv. A file of libvirt has it before the rest.
            guard values["iv"] == nil ? keyID == nil || form == .base64 : keyID != nil && vector?.count == 16 else {
                throw ValidationError(
                    "--object secret \(name): with keyid=, and with it alone, goes iv=, 16 bytes in base64; without it, they "
                        + "come first in what is encrypted, and format= is not raw.")
            }
        }

        private static let names = ["id", "file", "data", "format", "keyid", "iv"]

        /// What "secret,id=…,file=…" says; a comma in a value is doubled.
        private static func properties(_ argument: String) throws -> [String: String] {
            let parts = argument.replacing(",,", with: "\0").split(separator: ",", omittingEmptySubsequences: false)
            guard let type = parts.first, type == "secret" || type == "qom-type=secret" else { throw wrongType }
            var values: [String: String] = [:]
            for part in parts.dropFirst() {
                let pair = part.replacing("\0", with: ",").split(separator: "=", maxSplits: 1).map(String.init)
                guard pair.count == 2, names.contains(pair[0]), values.updateValue(pair[1], forKey: pair[0]) == nil
                else {
                    // A value may be a secret.
                    throw ValidationError(
                        "--object secret takes each of id, file, data, format, keyid and iv once, as NAME=VALUE.")
                }
            }
            return values
        }

        /// What a JSON object says, as QEMU 6.0 and later take it.
        private static func members(_ argument: String) throws -> [String: String] {
            var members: [String: JSONValue]
            do { members = try StrictJSON.read(text: Array(argument.utf8)) } catch {
                throw ValidationError(
                    "--object: at byte \(error.position) of the JSON object there is \(error.found), allowed is \(error.allowed)."
                )
            }
            guard members.removeValue(forKey: "qom-type") == .string("secret") else { throw wrongType }
            // QEMU still takes it, and needs it no more.
            if members["loaded"] == .bool(true) { members["loaded"] = nil }
            var values: [String: String] = [:]
            for (name, value) in members {
                guard names.contains(name), case .string(let text) = value else {
                    throw ValidationError(
                        "--object: a secret in JSON has qom-type, id, file, data, format, keyid and iv, and their values are texts."
                    )
                }
                values[name] = text
            }
            return values
        }

        private static let wrongType = ValidationError(
            "--object takes an object of type secret alone: secret,id=ID,file=PATH, or the same in JSON.")
    }

    /// - Throws: `ValidationError`.
    init(_ arguments: [String]) throws {
        let objects = try arguments.map(Object.init)
        let byID = Dictionary(objects.map { ($0.id, $0) }) { first, _ in first }
        guard byID.count == objects.count else { throw ValidationError("Each --object secret needs an id of its own.") }
        // A chain of keys is no longer than there are objects, unless it leads back.
        func source(_ object: Object, depth: Int) throws -> SecretSource {
            guard depth < objects.count else {
                throw ValidationError(
                    "--object secret \(ShownText.quoted(object.id)): its key is encrypted with itself.")
            }
            let place = object.file.map { SecretOrigin.file($0) } ?? .ciphertext(object.data ?? "")
            let plain = SecretSource.object(object.id, place, object.form)
            guard let keyID = object.keyID else { return plain }
            guard let key = byID[keyID] else {
                throw ValidationError(
                    "--object secret \(ShownText.quoted(object.id)): there is no object \(ShownText.quoted(keyID)) for its key."
                )
            }
            let wrapped = SecretOrigin.wrapped(plain, key: try source(key, depth: depth + 1), vector: object.vector)
            return .object(object.id, wrapped, .bytes)
        }
        let sources = try objects.map { try source($0, depth: 0) }
        let keys = Set(objects.compactMap(\.keyID))
        self.sources = zip(objects, sources).filter { !keys.contains($0.0.id) }.map(\.1)
    }
}
