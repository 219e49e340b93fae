// SPDX-License-Identifier: Apache-2.0

import Foundation

/// An image file of a chain, and how QEMU opens it.
struct ShapeLayer: Sendable {
    /// A format with its encryption.
    enum Kind: String, CaseIterable, Sendable, CustomStringConvertible {
        case raw, luks, qcow, qcowAES, qcow2, qcow2AES, qcow2LUKS

        /// What QEMU calls the format.
        var driver: String {
            switch self {
            case .raw: "raw"
            case .luks: "luks"
            case .qcow, .qcowAES: "qcow"
            case .qcow2, .qcow2AES, .qcow2LUKS: "qcow2"
            }
        }

        /// What QEMU calls the encryption in the image; nil when there is none, or nothing else.
        var encryption: String? {
            switch self {
            case .qcowAES, .qcow2AES: "aes"
            case .qcow2LUKS: "luks"
            case .raw, .luks, .qcow, .qcow2: nil
            }
        }

        var isEncrypted: Bool { self == .luks || encryption != nil }
        var isQcow2: Bool { driver == "qcow2" }
        var description: String { rawValue }
    }

    let kind: Kind
    let path: String
    /// Holds the passphrase; nil when the layer is not encrypted.
    var passphrasePath: String?
    /// The path of its external data file.
    var dataFile: String?

    /// The node of QEMU for this layer and those below it.
    ///
    /// - Parameters:
    ///   - number: the secret is called "s" and this.
    ///   - backing: the node of the layer below.
    fileprivate func node(_ number: Int, backing: String?) -> String {
        var members = [
            "\"driver\":\"\(kind.driver)\"", "\"file\":{\"driver\":\"file\",\"filename\":\"\(path)\"}",
        ]
        if let dataFile { members.append("\"data-file\":{\"driver\":\"file\",\"filename\":\"\(dataFile)\"}") }
        if kind == .luks { members.append("\"key-secret\":\"s\(number)\"") }
        if let encryption = kind.encryption {
            members.append("\"encrypt\":{\"format\":\"\(encryption)\",\"key-secret\":\"s\(number)\"}")
        }
        if kind != .raw, kind != .luks { members.append("\"backing\":\(backing ?? "null")") }
        return "{\(members.joined(separator: ","))}"
    }
}

/// Image files that stand on each other, the top first.
struct ShapeChain: Sendable {
    var layers: [ShapeLayer]

    var path: String { layers.first?.path ?? "" }

    /// What QEMU's tools need first.
    var objectArguments: [String] {
        layers.enumerated().flatMap { number, layer in
            layer.passphrasePath.map { ["--object", "secret,id=s\(number),file=\($0)"] } ?? []
        }
    }

    /// What QEMU's tools call the disk: every layer is named with its format and its secret.
    var name: String {
        "json:" + layers.enumerated().reversed().reduce(into: "null") { $0 = $1.element.node($1.offset, backing: $0) }
    }

    /// Every secret, for every layer that it may fit.
    var ringArguments: [String] { layers.compactMap(\.passphrasePath).flatMap { ["--passphrase-file", $0] } }

    /// The layers from this one down.
    func from(_ number: Int) -> ShapeChain { ShapeChain(layers: Array(layers.dropFirst(number))) }

    /// Runs commands of qemu-io on the disk.
    @discardableResult
    func io(_ commands: [String]) async throws -> String {
        try await Tool.succeed("qemu-io", objectArguments + [name] + commands.flatMap { ["-c", $0] })
    }

    /// The disk as QEMU reads it.
    /// - Parameter snapshot: of the top layer, by name.
    func oracle(in directory: TemporaryDirectory, snapshot: String? = nil) async throws -> Data {
        let raw = directory.file("oracle-\(UInt32.random(in: 0...UInt32.max))")
        let source = snapshot.map { ["-l", "snapshot.name=\($0)"] } ?? []
        try await Tool.succeed("qemu-img", ["convert"] + objectArguments + source + ["-O", "raw", name, raw])
        defer { try? FileManager.default.removeItem(atPath: raw) }
        return try Data(contentsOf: URL(fileURLWithPath: raw))
    }
}
