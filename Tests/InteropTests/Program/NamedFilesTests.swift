// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Testing

/// Names as libvirt and QEMU write them, in every layer; and what the directory of an image does not make the image's to name.
@Suite(.fewAtATime)
struct NamedFilesTests {
    /// Ways to name a file "FILE" of "FORMAT" in the directory "DIR".
    static let forms = [
        "DIR/FILE", "file:FILE", "file:DIR/FILE", "file:///DIR/FILE", "ALIAS/FILE", "DIR/../images/FILE",
        #"json:{"driver":"FORMAT","file":{"driver":"file","filename":"FILE"}}"#,
        #"json:{"driver":"FORMAT","file":{"driver":"file","filename":"DIR/FILE"}}"#, #"json:{"file.filename":"FILE"}"#,
        #"json:{"driver":"FORMAT","file.driver":"file","file.filename":"ALIAS/FILE"}"#,
        #"json:{"file":{"filename":"DIR/FILE","locking":"off"},"discard":"ignore"}"#,
    ]

    @Test(arguments: forms)
    func `absolute names, file: names and JSON in every layer are read as QEMU reads them`(_ form: String) async throws
    {
        try await withImages { directory, images in
            func name(_ file: String, _ format: String) -> String {
                form.replacing("DIR", with: images).replacing("ALIAS", with: "\(directory.path)/alias")
                    .replacing("FILE", with: file).replacing("FORMAT", with: format)
            }
            try await Tool.shell(
                """
                cd '\(images)'
                qemu-img create -q -u -f qcow2 -F raw -b '\(name("base", "raw"))' middle 1M
                qemu-img create -q -u -f qcow2 -F qcow2 -b '\(name("middle", "qcow2"))' top 1M
                qemu-io -c 'write -q -P 7 64k 64k' middle
                qemu-io -c 'write -q -P 8 256k 64k' top
                qemu-img convert -f qcow2 -O raw top oracle
                """)
            let oracle = try File.contents("\(images)/oracle")
            let outcome = try await ServerUnderTest.run(
                ["serve", "\(images)/top", "--socket", directory.file("s")], in: directory
            ) { server in try server.expect(oracle) }
            for line in ["layer 1: backing file ", "layer 2: backing file "] {
                #expect(outcome.errors.contains("nbdecrypt: \(line)"), "at notice level: \(outcome.errors)")
            }
            let audit = try await Program.run(["audit", "\(images)/top"])
            #expect(audit.code == 0 && audit.output.contains("clean"), "\(audit.errors)")
        }
    }

    @Test func `a format in a name counts as said, and must agree with the header`() async throws {
        try await withImages { directory, images in
            let socket = ["--socket", directory.file("s")]
            let json = #"json:{"driver":"qcow2","file":{"driver":"file","filename":"middle"}}"#
            try await Tool.shell(
                """
                cd '\(images)'
                qemu-img create -q -f qcow2 middle 1M
                qemu-io -c 'write -q -P 7 64k 64k' middle
                qemu-img create -q -u -f qcow -F qcow2 -b '\(json)' old 1M
                qemu-img convert -f qcow -O raw old oracle
                qemu-img create -q -u -f qcow2 -F raw -b '\(json)' liar 1M
                """)
            let oracle = try File.contents("\(images)/oracle")
            try await ServerUnderTest.run(["serve", "\(images)/old"] + socket, in: directory) { server in
                try server.expect(oracle)
            }
            let outcome = try await Program.run(["serve", "\(images)/liar"] + socket)
            #expect(outcome.code == 65 && outcome.errors.contains("raw in the header but qcow2 in its name"))
            // As QEMU reads it: the header counts.
            try await runAdvice(outcome.errors, "qemu-img rebase", directory)
            let raw = try File.contents("\(images)/middle")
            try await ServerUnderTest.run(["serve", "\(images)/liar", "--exports", "layer/1"] + socket, in: directory) {
                server in try server.expect(raw, at: "layer/1")
            }
        }
    }

    @Test func `a loop is found under every name`() async throws {
        try await withImages { directory, images in
            for name in ["\(images)/a", "\(directory.path)/alias/a", #"json:{"driver":"qcow2","file.filename":"a"}"#] {
                try HostileImage(backing: "b", format: "qcow2").write(to: "\(images)/a")
                try HostileImage(backing: name, format: "qcow2").write(to: "\(images)/b")
                try await Program.expectRefusal(
                    ["serve", "\(images)/a", "--socket", directory.file("s")], status: 65, saying: "above itself")
            }
        }
    }

    /// The encryption of the image that names a file; empty for none.
    static let methods = ["", "aes", "luks"]

    @Test(arguments: methods)
    func `what only QEMU can read is copied and named by the commands that the refusal prints`(_ method: String)
        async throws
    {
        try await withImages { directory, images in
            let top = try await encrypted(method, "it's, top.qcow2", directory, images)
            for name in [
                #"json:{"driver":"raw","offset":65536,"size":524288,"file":{"driver":"file","filename":"DIR/base"}}"#,
                #"json:{"driver":"raw","file":{"driver":"nbd","path":"DIR/nbd.sock"}}"#,
                "nbd+unix:///?socket=DIR/nbd.sock",
            ] {
                let name = name.replacing("DIR", with: images)
                try await top.rename(to: name, format: "raw")
                let outcome = try await Program.run(["serve", top.path, "--run", "true"] + top.secret)
                #expect(outcome.code == 65 && outcome.errors.contains("never opened"), "\(outcome.errors)")
                let server = "qemu-nbd -t -r -f raw -k \(images)/nbd.sock \(images)/base & trap 'kill $!' EXIT; "
                let wait = "until [ -S \(images)/nbd.sock ]; do sleep 0.05; done; "
                try await Tool.shell(
                    server + wait + "cd \(images); qemu-img convert \(top.source) -O raw '\(images)/oracle'; "
                        + (try advice(outcome.errors, "qemu-img convert", directory)))
                let oracle = try File.contents("\(images)/oracle")
                try await ServerUnderTest.run(
                    ["serve", top.path, "--no-passphrase-check", "--socket", directory.file("s")] + top.secret,
                    in: directory
                ) { server in try server.expect(oracle) }
            }
        }
    }

    @Test(arguments: methods)
    func `a file that is described with its secret gets a plain name by the command that the refusal prints`(
        _ method: String
    ) async throws {
        try await withImages { directory, images in
            let base = try await encrypted("luks", "base.qcow2", directory, images)
            let top = try await encrypted(method, "top.qcow2", directory, images)
            for place in ["\(images)/", ""] {
                let name =
                    #"json:{"driver":"qcow2","encrypt":{"format":"luks","key-secret":"key"},"file":{"driver":"file","#
                    + #""filename":"\#(place)base.qcow2"}}"#
                try await top.rename(to: name, format: "qcow2")
                let serve = ["serve", top.path, "--no-passphrase-check"] + base.secret
                let outcome = try await Program.run(serve + ["--run", "true"])
                #expect(outcome.code == 65 && outcome.errors.contains("is not known here"), "\(outcome.errors)")
                try await runAdvice(outcome.errors, "qemu-img rebase", directory)
                try await ServerUnderTest.run(serve + ["--socket", directory.file("s")], in: directory) { _ in }
            }
        }
    }

    @Test(arguments: ["", "aes"])
    func `a data file without a plain name gets one by the command that the refusal prints`(_ method: String)
        async throws
    {
        try await withImages { directory, images in
            let top = try await encrypted(method, "it's, top", directory, images, more: ",data_file=\(images)/data")
            let secret = top.secret + ["--no-passphrase-check"]
            let disk = try await disk(of: top, images)
            for name in [#"json:{"driver":"file","filename":"\#(images)/data"}"#, "nbd:x:1", "file:\(images)/data"] {
                let editor = Qcow2Editor(path: top.path)
                let place = try #require(try File.contents(top.path).range(of: Data("DATA".utf8))).lowerBound
                // All that comes behind it is the end of the extensions, and a table of names.
                let padding = [UInt8](repeating: 0, count: (8 - name.utf8.count % 8) % 8 + 8)
                try editor.set(UInt32(name.utf8.count), at: place + 4)
                try editor.set(Array(name.utf8) + padding, at: place + 8)
                let outcome = try await Program.run(["serve", top.path, "--run", "true"] + secret)
                #expect(outcome.code == 65 && outcome.errors.contains("external data file"), "\(outcome.errors)")
                try await runAdvice(
                    outcome.errors.replacing("=NAME", with: "=\(images)/data"), "qemu-img amend", directory)
                try await ServerUnderTest.run(
                    ["serve", top.path, "--socket", directory.file("s")] + secret, in: directory
                ) { server in try server.expect(disk) }
            }
        }
    }

    @Test(arguments: methods)
    func `a backing file that is not there is named anew by the command that the message prints`(_ method: String)
        async throws
    {
        try await withImages { directory, images in
            let top = try await encrypted(method, "it's, top.qcow2", directory, images)
            try await top.rename(to: "gone", format: "raw")
            let outcome = try await Program.run(["serve", top.path, "--run", "true"] + top.secret)
            #expect(outcome.code == 66 && outcome.errors.contains("is not there"), "\(outcome.errors)")
            try await runAdvice(outcome.errors.replacing("./NAME", with: "./base"), "qemu-img rebase", directory)
            let disk = try await disk(of: top, images)
            try await ServerUnderTest.run(
                ["serve", top.path, "--no-passphrase-check", "--socket", directory.file("s")] + top.secret,
                in: directory
            ) { server in try server.expect(disk) }
        }
    }

    @Test(arguments: ["", "aes"])
    func `a data file that is not there is named anew by the command that the message prints`(_ method: String)
        async throws
    {
        try await withImages { directory, images in
            let top = try await encrypted(method, "it's, top", directory, images, more: ",data_file=\(images)/data")
            let secret = top.secret + ["--no-passphrase-check"]
            let disk = try await disk(of: top, images)
            try FileManager.default.moveItem(atPath: "\(images)/data", toPath: "\(images)/moved")
            let outcome = try await Program.run(["serve", top.path, "--run", "true"] + secret)
            #expect(outcome.code == 66 && outcome.errors.contains("is not there"), "\(outcome.errors)")
            try await runAdvice(
                outcome.errors.replacing("=NAME", with: "=\(images)/moved"), "qemu-img amend", directory)
            try await ServerUnderTest.run(
                ["serve", top.path, "--socket", directory.file("s")] + secret, in: directory
            ) { server in try server.expect(disk) }
        }
    }

    @Test func `in an image of qcow version 1 nothing is named anew, so the file has to be put there`() async throws {
        try await withImages { directory, images in
            try await Tool.shell("cd \(images); qemu-img create -q -u -f qcow -F raw -b gone top 512k")
            let outcome = try await Program.run(["serve", "\(images)/top", "--run", "true"])
            #expect(outcome.code == 66 && outcome.errors.hasSuffix("put it there\n"), "\(outcome.errors)")
        }
    }

    /// The disk as QEMU reads it.
    private func disk(of image: Encrypted, _ images: String) async throws -> Data {
        try await Tool.shell("qemu-img convert \(image.source) -O raw \(images)/disk")
        return try File.contents("\(images)/disk")
    }

    @Test
    func `an image of qcow version 1, which cannot be renamed in, is copied by the command that the refusal prints`()
        async throws
    {
        try await withImages { directory, images in
            let name = #"json:{"driver":"raw","offset":65536,"file":{"driver":"file","filename":"\#(images)/base"}}"#
            try await Tool.shell("cd \(images); qemu-img create -q -u -f qcow -F raw -b '\(name)' top 512k")
            let outcome = try await Program.run(["serve", "\(images)/top", "--run", "true"])
            #expect(outcome.code == 65 && outcome.errors.contains("stands alone"), "\(outcome.errors)")
            try await runAdvice(outcome.errors, "qemu-img convert", directory)
            let oracle = try File.contents("\(images)/base")[65536..<65536 + 512 << 10]
            try await ServerUnderTest.run(
                ["serve", "\(images)/top.qcow2", "--socket", directory.file("s")], in: directory
            ) { server in try server.expect(Data(oracle)) }
        }
    }

    // MARK: What is not the image's to name

    @Test func `a file of another owner, a hidden one and one on another file system open only when they are named`()
        async throws
    {
        try await withImages { directory, images in
            try await Tool.shell(
                "cd \(images); cp base other; cp base .hidden; chown 65534 other; mkdir .dir; cp base .dir/base; ln -s .dir dir"
            )
            try await refused("\(images)/image", "other", "belongs to another user (65534)", directory)
            for name in [".hidden", ".dir/base", "dir/base"] {
                try await refused("\(images)/image", name, "is hidden, by the dot", directory)
            }
            // Only what belongs to the owner of the image itself, whoever that is.
            let image = try HostileImage(backing: "other").write(to: "\(images)/owned")
            try await Tool.shell("chown 65534 \(image)")
            try await ServerUnderTest.run(["serve", image, "--socket", directory.file("s")], in: directory) { _ in }
            try HostileImage(backing: "base").write(to: image)
            try await refused(image, "base", "belongs to another user (0)", directory)
        }
        // Below /dev there is always another mount.
        let name = "nbdecrypt-\(UInt32.random(in: 0...UInt32.max))"
        defer {
            for path in ["/dev/\(name)", "/dev/shm/\(name)"] { try? FileManager.default.removeItem(atPath: path) }
        }
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try Data(DiskContents(mark: 1).bytes(at: 0, count: 1 << 20, .plain)).write(
            to: URL(fileURLWithPath: "/dev/shm/\(name)"))
        try await refused("/dev/\(name)", "shm/\(name)", "lies on another file system", directory)
        try await refused("/dev/\(name)", "/dev/shm/\(name)", "lies on another file system", directory)
    }

    @Test func `an image opens in a directory that may be entered but not listed`() async throws {
        try await withImages { directory, images in
            try HostileImage(backing: "base").write(to: "\(images)/top")
            try HostileImage(backing: "\(images)/base").write(to: "\(images)/absolute")
            try await Tool.shell(
                """
                chmod 755 \(directory.path); cp '\(try Program.path)' \(directory.path)/program
                cd \(images); chown 65534 base top absolute; chmod 711 .
                """)
            for image in ["top", "absolute"] {
                let line =
                    "! ls \(images) 2> /dev/null && \(directory.path)/program serve \(images)/\(image) "
                    + "--run 'nbdcopy \"$uri\" - | cmp - \(images)/base'"
                try await Tool.succeed(
                    "setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-c", line])
            }
        }
    }

    private func refused(_ image: String, _ name: String, _ says: String, _ directory: TemporaryDirectory) async throws
    {
        if !File.exists(image) { try HostileImage(backing: name).write(to: image) }
        defer { try? FileManager.default.removeItem(atPath: image) }
        let path = name.hasPrefix("/") ? name : (image as NSString).deletingLastPathComponent + "/" + name
        let arguments = ["serve", image, "--socket", directory.file("s")]
        try await Program.expectRefusal(
            arguments, status: 65, saying: image, "(\(name))", says, "--allow-reference \(ShellText.quoted(path))")
        for permission in [["--allow-reference", path], ["--references", "allow"]] {
            try await ServerUnderTest.run(arguments + permission, in: directory) { server in
                try server.expect(try File.contents(path))
            }
        }
    }

    // MARK: Helpers

    /// An image of qcow2, encrypted perhaps.
    private struct Encrypted {
        let path: String
        let secret: [String]
        /// What qemu-img needs to open it.
        let source: String

        func rename(to name: String, format: String) async throws {
            let line = "qemu-img rebase -u -F \(format) -b \(ShellText.quoted(name)) \(source)"
            try await Tool.shell("for i in $(seq 50); do \(line) 2> /dev/null && exit; done; exec \(line)")
        }
    }

    private func encrypted(
        _ method: String, _ name: String, _ directory: TemporaryDirectory, _ images: String, more: String = ""
    ) async throws -> Encrypted {
        let secret = try directory.write("PASSPHRASE-FILE", text: "correct horse")
        let object = "--object secret,id=key,file=\(secret)"
        let path = "\(images)/\(name)"
        let quoted = ShellText.quoted(path)
        let cost = method == "luks" ? ",encrypt.iter-time=10" : ""
        let encryption = method.isEmpty ? "" : ",encrypt.format=\(method),encrypt.key-secret=key\(cost)"
        let options = "\(object) -o compat=1.1\(encryption)\(more)"
        let create = "qemu-img create -q -f qcow2 \(options) \(quoted) 512k"
        try await Tool.shell("for i in $(seq 50); do \(create) 2> /dev/null && exit; done; exec \(create)")
        let doubled = quoted.replacing(",", with: ",,")
        return Encrypted(
            path: path, secret: method.isEmpty ? [] : ["--passphrase-file", secret],
            source: method.isEmpty
                ? "-f qcow2 \(quoted)"
                : "\(object) --image-opts driver=qcow2,encrypt.key-secret=key,file.driver=file,file.filename=\(doubled)"
        )
    }

    /// The command in a refusal from this word on.
    private func advice(_ errors: String, _ start: String, _ directory: TemporaryDirectory) throws -> String {
        let last = try #require(errors.split(separator: "\n").last)
        let begin = try #require(last.range(of: start), "\(last)")
        return String(last[begin.lowerBound...]).replacing("PASSPHRASE-FILE", with: directory.file("PASSPHRASE-FILE"))
    }

    private func runAdvice(_ errors: String, _ start: String, _ directory: TemporaryDirectory) async throws {
        let command = try advice(errors, start, directory)
        try await Tool.shell("for i in $(seq 50); do (\(command)) 2> /dev/null && exit; done; \(command)")
    }

    /// A directory "images" with a plain disk "base", and another name for it, "alias".
    private func withImages(_ body: (TemporaryDirectory, _ images: String) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try FileManager.default.createDirectory(atPath: directory.file("images"), withIntermediateDirectories: false)
        try directory.write("images/base", DiskContents(mark: 3).bytes(at: 0, count: 1 << 20, .plain))
        try FileManager.default.createSymbolicLink(atPath: directory.file("alias"), withDestinationPath: "images")
        try await body(directory, directory.file("images"))
    }
}
