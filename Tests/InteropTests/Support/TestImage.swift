// SPDX-License-Identifier: Apache-2.0

import Foundation

/// An image file, and QEMU's view of it.
struct TestImage: Sendable {
    let path: String
    /// Holds the passphrase; nil when the image is not encrypted.
    var passphrasePath: String?

    /// The arguments of `nbdecrypt serve` for it.
    var serveArguments: [String] { ["serve", path] + secretArguments }

    private var secretArguments: [String] { passphrasePath.map { ["--passphrase-file", $0] } ?? [] }

    /// What QEMU's tools need first to open an encrypted image.
    var objectArguments: [String] { passphrasePath.map { ["--object", "secret,id=s,file=\($0)"] } ?? [] }

    /// What QEMU's tools call the image after `--image-opts`.
    var options: String {
        let secret = passphrasePath == nil ? "" : ",encrypt.format=aes,encrypt.key-secret=s"
        return "driver=qcow2,file.filename=\(path)\(secret)"
    }

    /// The guest disk as QEMU reads it.
    func oracle(in directory: TemporaryDirectory) async throws -> Data {
        let raw = directory.file("oracle.raw")
        try await Tool.succeed(
            "qemu-img", ["convert"] + objectArguments + ["--image-opts", options, "-O", "raw", raw])
        return try File.contents(raw)
    }

    /// Runs commands of qemu-io on the image.
    @discardableResult
    func io(_ commands: [String]) async throws -> String {
        try await Tool.succeed(
            "qemu-io", objectArguments + ["--image-opts", options] + commands.flatMap { ["-c", $0] })
    }

    /// What `qemu-img check` counts.
    func check() async throws -> QEMUCheck {
        let text = try await Tool.succeed(
            "qemu-img", ["check", "--output", "json"] + objectArguments + ["--image-opts", options])
        return try JSONDecoder().decode(QEMUCheck.self, from: Data(text.utf8))
    }
}

/// Part of the output of `qemu-img check`; what is absent is zero.
struct QEMUCheck: Decodable {
    var allocated: UInt64?
    var compressed: UInt64?
    var total: UInt64

    enum CodingKeys: String, CodingKey {
        case allocated = "allocated-clusters"
        case compressed = "compressed-clusters"
        case total = "total-clusters"
    }
}
