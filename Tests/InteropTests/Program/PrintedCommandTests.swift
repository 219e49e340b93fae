// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The commands in sentences do what is said of them, on the input for which they are printed.
@Suite(.fewAtATime)
struct PrintedCommandTests {
    @Test(arguments: [false, true])
    func `a header of which no copy can be used comes back by the command that is printed`(isDetached: Bool)
        async throws
    {
        try await withContainer(isDetached: isDetached) { container in
            let before = try await container.disk()
            let backup = container.file("backup")
            try await container.maker.cryptsetup(
                ["luksHeaderBackup", container.header, "--header-backup-file", backup])
            for copy in [0, 16384] { try Qcow2Editor(path: container.header).set([0xFF, 0xFF], at: copy + 5000) }
            let outcome = try await container.serve()
            #expect(outcome.code == 65 && outcome.errors.contains("the other copy is damaged too"), "\(outcome.errors)")
            let command = try Self.command(outcome.errors, "cryptsetup luksHeaderRestore")
                .replacing("BACKUP", with: backup).replacing("DEVICE", with: container.header)
            try await Tool.shell("\(command) --batch-mode")
            let after = try await container.disk()
            #expect(after.elementsEqual(before))
        }
    }

    @Test(arguments: [false, true])
    func `a damaged copy of a header is written anew by the command that the warning prints`(isDetached: Bool)
        async throws
    {
        try await withContainer(isDetached: isDetached) { container in
            let before = try await container.disk()
            try Qcow2Editor(path: container.header).set([0xFF, 0xFF], at: 5000)
            let warned = try await container.serve()
            #expect(warned.code == 0 && warned.errors.contains("is damaged"), "\(warned.errors)")
            let command = try Self.command(warned.errors, "cryptsetup repair")
            try await Tool.shell("\(command.replacing("DEVICE", with: container.header)) --batch-mode")
            let mended = try await container.serve()
            #expect(mended.code == 0 && !mended.errors.contains("damaged"), "\(mended.errors)")
            let after = try await container.disk()
            #expect(after.elementsEqual(before))
        }
    }

    @Test(arguments: [false, true])
    func `the volume key that fits is written by the command that the refusal prints`(isDetached: Bool) async throws {
        try await withContainer(isDetached: isDetached) { container in
            let wrong = try container.maker.directory.write("wrong", [UInt8](repeating: 7, count: 64))
            let refused = try await container.serve(secret: ["--volume-key-file", wrong])
            #expect(refused.code == 77, "\(refused.errors)")
            let right = container.file("right")
            let command = try Self.command(refused.errors, "cryptsetup luksDump")
                .replacing("NEW", with: right).replacing("DEVICE", with: container.header)
            try await Tool.shell("\(command) --batch-mode --key-file \(container.key)")
            let opened = try await container.serve(secret: ["--volume-key-file", right])
            #expect(opened.code == 0, "\(opened.errors)")
        }
    }

    @Test func `a reencryption that was interrupted goes on by the command that the refusal prints`() async throws {
        try await withContainer { container in
            let before = try await container.disk()
            // Thousands of steps, each of which is written down; it stops between two of them.
            let begin =
                "cryptsetup reencrypt -q --force-offline-reencrypt --key-file \(container.key) "
                + "\(LUKSMaker.cheap.joined(separator: " ")) --resilience journal --hotzone-size 4k \(container.header)"
            // On a busy machine it may have ended before it is seen: then once more, from the start.
            try await Tool.shell(
                """
                cd \(container.maker.directory.path); cp \(container.header) whole
                for attempt in $(seq 50); do
                    cp whole \(container.header)
                    \(begin) > /dev/null 2>&1 & writer=$!
                    while kill -0 $writer 2> /dev/null; do
                        cryptsetup luksDump \(container.header) | grep -q '  2: crypt' || continue
                        kill -INT $writer 2> /dev/null || break
                        if ! wait $writer; then rm whole; exit; fi
                        break
                    done
                    wait $writer || true
                done
                echo it was never seen on its way >&2; exit 1
                """)
            let refused = try await container.serve()
            #expect(
                refused.code == 65 && refused.errors.contains("in the middle of a reencryption"), "\(refused.errors)")
            let command = try Self.command(refused.errors, "cryptsetup reencrypt")
                .replacing("DEVICE", with: container.header)
            #expect(refused.errors.contains("(with --force-offline-reencrypt if that is a file"))
            try await Tool.shell(
                "\(command) --force-offline-reencrypt --batch-mode --key-file \(container.key) --resilience none")
            let after = try await container.disk()
            #expect(after.elementsEqual(before))
        }
    }

    @Test(arguments: [0, 1])
    func `a qcow image with too large a table is served by the command that the refusal prints`(method: UInt32)
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("old.qcow", Data())
        let entries = (32 << 20) / 8 + 1
        let size = UInt64(entries) << 21
        let header = [Qcow2Editor.bytes(UInt32(0x5146_49FB)), Qcow2Editor.bytes(UInt32(1))]
        let numbers: [[UInt8]] = [
            Qcow2Editor.bytes(UInt64(0)), Qcow2Editor.bytes(UInt32(0)), Qcow2Editor.bytes(UInt32(0)),
            Qcow2Editor.bytes(size), [12, 9, 0, 0], Qcow2Editor.bytes(method), Qcow2Editor.bytes(UInt64(48)),
        ]
        let editor = Qcow2Editor(path: image)
        try editor.set((header + numbers).flatMap { $0 }, at: 0)
        try editor.truncate(to: 48 + entries * 8)
        let secret = try directory.write("secret", text: "correct horse")
        let refused = try await Program.run(["serve", image, "--run", "true"])
        #expect(refused.code == 65 && refused.errors.contains("an L1 table of \(entries) entries"), "\(refused.errors)")
        let command = try Self.command(refused.errors, "qemu-nbd")
            .replacing("PASSPHRASE-FILE", with: secret).replacing("IMAGE", with: image)
        let served = try await Tool.shell(
            """
            cd \(directory.path); \(command) --fork --pid-file=$PWD/pid
            nbdinfo --size "nbd+unix:///?socket=$PWD/nbd.sock"; kill $(cat pid)
            """)
        #expect(served == "\(size)\n")
    }

    @Test(arguments: PrintedRepairTests.methods)
    func `a bitmap that was in use is removed by the command that is printed`(_ method: String) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let secret = try directory.write("secret", text: "correct horse")
        let image = directory.file("disk.qcow2")
        let object = "--object secret,id=key,file=\(secret)"
        let encryption = method.isEmpty ? "" : ",encrypt.format=\(method),encrypt.key-secret=key"
        let open = "--image-opts driver=qcow2,file.filename=\(image)\(method.isEmpty ? "" : ",encrypt.key-secret=key")"
        // A server that is killed leaves the bitmap that it has taken in use.
        try await Tool.shell(
            """
            cd \(directory.path)
            for i in $(seq 50); do
                qemu-img create -q \(object) -f qcow2 -o size=4M\(encryption)\(method == "luks" ? ",encrypt.iter-time=10" : "") \
                    \(image) && break
            done
            qemu-img bitmap --add --enable \(object) \(open) since
            qemu-nbd --persistent --socket=$PWD/q --fork --pid-file=$PWD/pid \(object) \(open)
            qemu-io -f raw "nbd+unix:///?socket=$PWD/q" -c 'write -q 0 64k' -c flush
            kill -KILL $(cat pid); while kill -0 $(cat pid) 2> /dev/null; do sleep 0.05; done
            """)
        let password = method.isEmpty ? [] : ["--passphrase-file", secret]
        let serve = ["serve", image, "--run", "true"] + password
        let refused = try await Program.run(serve + ["--bitmap", "since"])
        #expect(refused.code == 65, "\(refused.errors)")
        let command = try Self.command(refused.errors, "qemu-img bitmap")
            .replacing("PASSPHRASE-FILE", with: secret).replacing("IMAGE", with: image)
        // QEMU 7.2 now and then cannot tell how fast the machine is when it opens LUKS; it changes nothing then.
        try await Tool.shell("for i in $(seq 50); do \(command) 2> /dev/null && exit; done; \(command)")
        let served = try await Program.run(serve)
        #expect(served.code == 0 && !served.errors.contains("since"), "\(served.errors)")
    }

    @Test(arguments: ["partition", "window", "qcow2", "qcow2 partition"])
    func `the commands for a container that cryptsetup does not see make a new image of the same disk`(_ place: String)
        async throws
    {
        try await withContainer { container in
            let before = try await container.disk()
            let (image, options) = try await container.put(into: place)
            let commands = try await container.commands([image] + options)
            try #require(commands.count == 1, "\(commands)")
            try container.maker.directory.write("new-passphrase", text: "new secret")
            let quick = commands[0].replacing(
                "--iter-time 5000", with: "--iter-time 10 --new-passphrase-file new-passphrase"
            )
            .replacing("nbdecrypt migrate ", with: "\(try Program.path) migrate --passphrase-file \(container.key) ")
            try await Tool.shell("cd \(container.file(".")); \(quick)")
            let after = try await container.disk(
                of: [container.file("new.qcow2"), "--passphrase-file", container.file("new-passphrase")])
            #expect(after.elementsEqual(before))
        }
    }

    @Test func `the commands for a header alone change the container of whatever DEVICE is`() async throws {
        try await withContainer(isDetached: true) { container in
            let before = try await container.disk()
            let commands = try await container.commands([container.header])
            #expect(commands.contains { $0.contains("DEVICE") }, "\(commands)")
            for command in commands {
                let isOfKey = command.contains("luksConvertKey") || command.contains("reencrypt")
                // A file needs to be told to be one.
                let more =
                    (isOfKey ? " --key-file \(container.key) --pbkdf-memory 65536 --pbkdf-force-iterations 4" : "")
                    + (command.contains("reencrypt ") ? " --force-offline-reencrypt" : "")
                try await Tool.shell("\(command.replacing("DEVICE", with: container.data)) --batch-mode\(more)")
            }
            let after = try await container.disk()
            #expect(after.elementsEqual(before))
        }
    }

    // MARK: Helpers

    /// The command between backticks in a sentence that begins so.
    static func command(_ text: String, _ start: String) throws -> String {
        let parts = text.split(separator: "`", omittingEmptySubsequences: false).enumerated()
        return String(
            try #require(parts.first { $0.offset % 2 == 1 && $0.element.hasPrefix(start) }?.element, "\(text)"))
    }

    /// A LUKS2 container, and what to type for it.
    private struct Container {
        let maker: LUKSMaker
        /// The file with the header, and that with the data; the same unless the header is detached.
        let header: String
        let data: String
        /// The file with the passphrase.
        let key: String

        func file(_ name: String) -> String { maker.directory.file(name) }

        private var place: [String] { [data] + (header == data ? [] : ["--header", header]) }

        func serve(secret: [String]? = nil) async throws -> Tool.Outcome {
            try await Program.run(["serve", "--run", "true"] + place + (secret ?? ["--passphrase-file", key]))
        }

        /// What a client reads.
        func disk(of arguments: [String]? = nil) async throws -> Data {
            let copy = file("copy-\(UInt32.random(in: 0...UInt32.max))")
            let outcome = try await Program.run(
                ["serve", "--run", "nbdcopy \"$uri\" \(copy)"] + (arguments ?? place + ["--passphrase-file", key]))
            #expect(outcome.code == 0, "\(outcome.errors)")
            return try File.contents(copy)
        }

        /// The commands that `info` prints, each once.
        func commands(_ arguments: [String]) async throws -> [String] {
            let text = try await Tool.succeed(try Program.path, ["info", "--json"] + arguments)
            let report = try JSONDecoder().decode(InfoReport.self, from: Data(text.utf8))
            var commands: [String] = []
            for command in try #require(report.luks).verdict.weak.compactMap(\.command)
            where !commands.contains(command) { commands.append(command) }
            return commands
        }

        /// Puts the container where cryptsetup does not see it; gives the image, and what to add for its name.
        func put(into place: String) async throws -> (String, [String]) {
            let disk = file("it's a disk")
            switch place {
            case "partition", "qcow2 partition":
                let raw = file("disk.raw")
                try await Tool.shell(
                    """
                    truncate -s 21M \(raw)
                    echo start=2048,type=83 | PATH=$PATH:/usr/sbin sfdisk --quiet \(raw)
                    dd if=\(data) of=\(raw) bs=1M seek=1 conv=notrunc status=none
                    """)
                if place == "partition" { return (raw, ["-f", "raw", "--partition", "1"]) }
                try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", raw, disk])
                return (disk, ["--partition", "1"])
            case "window":
                let raw = file("disk.raw")
                try await Tool.shell("truncate -s 1M \(raw); cat \(data) >> \(raw)")
                return (raw, ["-f", "raw", "--offset", "1M"])
            default:
                try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", data, disk])
                return (disk, [])
            }
        }
    }

    private func withContainer(isDetached: Bool = false, _ body: (Container) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory)
        let key = try directory.write("key", text: "correct horse")
        let options = LUKSMaker.cheap + ["--sector-size", "512"]
        guard isDetached else {
            let path = try await maker.format(options: options)
            return try await body(Container(maker: maker, header: path, data: path, key: key))
        }
        let data = try directory.write("data", DiskContents(mark: 9).bytes(at: 0, count: 2 << 20, .noise))
        let header = directory.file("header")
        try await maker.cryptsetup(["luksFormat", "--type", "luks2"] + options + ["--header", header, data, key])
        try await body(Container(maker: maker, header: header, data: data, key: key))
    }
}
