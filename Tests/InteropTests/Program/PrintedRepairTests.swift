// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The commands of qemu-img that messages print do what is said of them, on encrypted images too.
@Suite(.fewAtATime)
struct PrintedRepairTests {
    /// The encryption of an image; empty for none.
    static let methods = ["", "aes", "luks"]

    @Test(arguments: methods)
    func `lost clusters are freed by the command that audit prints`(_ method: String) async throws {
        try await withImage(method) { image, directory in
            let editor = Qcow2Editor(path: image)
            try editor.set(UInt64(0), at: try editor.l2Place(of: 0))
            let before = try await Program.run(["audit", image])
            #expect(before.output.contains("lost clusters"), "\(before.output)\(before.errors)")
            try await run(before.output, containing: "check -r leaks", image, directory)
            let after = try await Program.run(["audit", image])
            #expect(after.code == 0 && !after.output.contains("lost clusters"), "\(after.output)")
        }
    }

    @Test(arguments: methods, [(1, "dirty bit"), (2, "corrupt bit")])
    func `a dirty bit and a corrupt bit are explained, and taken away by the command that audit and serve print`(
        _ method: String, _ mark: (bit: UInt64, name: String)
    ) async throws {
        try await withImage(method) { image, directory in
            let editor = Qcow2Editor(path: image)
            let secret = method.isEmpty ? [] : ["--passphrase-file", directory.file("secret"), "--no-passphrase-check"]
            for command in [["audit", image], ["serve", image, "--run", "true"] + secret] {
                try editor.set(try editor.long(at: 72) | mark.bit, at: 72)
                let before = try await Program.run(command)
                let text = before.output + before.errors
                #expect(before.code == 0 && text.contains("has its \(mark.name) set"), "\(text)")
                #expect(text.contains("compare it with a backup") == (mark.name == "corrupt bit"), "\(text)")
                try await run(text, containing: "check -r all", image, directory)
                let after = try await Program.run(command)
                #expect(after.code == 0 && !(after.output + after.errors).contains(mark.name), "\(after.output)")
            }
        }
    }

    @Test func `the mark of a data file that holds ciphertext is cleared by the command that audit prints`()
        async throws
    {
        try await withImage("luks", options: ",data_file=DIRECTORY/data,data_file_raw=on") { image, directory in
            let before = try await Program.run(["audit", image])
            #expect(before.code == 1 && before.output.contains("data_file_raw"), "\(before.output)\(before.errors)")
            try await run(before.output, containing: "data_file_raw=off", image, directory)
            let after = try await Program.run(["audit", image])
            #expect(after.code == 0, "\(after.output)")
        }
    }

    @Test(arguments: ["", "luks"])
    func `a data file without a name gets one by the command that the refusal prints`(_ method: String) async throws {
        try await withImage(method, options: ",data_file=DIRECTORY/data") { image, directory in
            let bytes = try File.contents(image)
            let name = try #require(bytes.range(of: Data("DATA".utf8)))
            try Qcow2Editor(path: image).set(UInt32(0x4441_5442), at: name.lowerBound)
            let before = try await Program.run(["serve", image, "--run", "true"])
            #expect(before.code == 65 && before.errors.contains("does not name it"), "\(before.errors)")
            let printed = before.errors.replacing("=NAME", with: "=\(directory.file("data"))")
            try await run(printed, containing: "amend -o data_file=", image, directory)
            let secret = method.isEmpty ? [] : ["--passphrase-file", directory.file("secret")]
            let after = try await Program.run(
                ["serve", image, "--run", "true", "--allow-reference", directory.file("data")] + secret)
            #expect(after.code == 0, "\(after.errors)")
        }
    }

    /// Runs the printed command that has `part` in it.
    private func run(
        _ text: String, containing part: String, _ image: String, _ directory: TemporaryDirectory
    ) async throws {
        let parts = text.split(separator: "`").map(String.init)
        let command = try #require(parts.first { $0.hasPrefix("qemu-img") && $0.contains(part) }, "\(text)")
        let filled = command.replacing("IMAGE", with: image)
            .replacing("PASSPHRASE-FILE", with: directory.file("secret"))
        // QEMU 7.2 now and then cannot tell how fast the machine is when it makes a LUKS header; it changes nothing then.
        try await Tool.shell("for i in $(seq 50); do \(filled) && exit 0; done; exit 1")
    }

    /// Gives `body` an image with a few stored clusters.
    private func withImage(
        _ method: String, options: String = "",
        _ body: (_ image: String, _ directory: TemporaryDirectory) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let secret = try directory.write("secret", text: "correct horse")
        let image = directory.file("disk.qcow2")
        let encryption = method.isEmpty ? "" : ",encrypt.format=\(method),encrypt.key-secret=key"
        let cost = method == "luks" ? ",encrypt.iter-time=10" : ""
        let more = options.replacing("DIRECTORY", with: directory.path)
        let open = method.isEmpty ? "" : ",encrypt.key-secret=key"
        try await Tool.shell(
            """
            object='--object secret,id=key,file=\(secret)'
            for i in $(seq 50); do
                qemu-img create -q $object -f qcow2 -o size=4M,compat=1.1\(encryption)\(cost)\(more) \(image) && break
            done
            qemu-io $object -c 'write -q -P 7 0 256k' --image-opts driver=qcow2,file.filename=\(image)\(open)
            """)
        try await body(image, directory)
    }
}
