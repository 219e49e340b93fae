// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Which files an image may have opened: it is hostile input, and the names in it could be those of any file.
@Suite(.fewAtATime)
struct ReferenceTests {
    /// A name in an image, in a directory with files of every kind.
    struct Name: Sendable, CustomStringConvertible {
        let bytes: [UInt8]
        let status: Int32
        let says: String
        /// What is said when every file may be opened; nil: the same.
        var whenAllowed: (status: Int32, says: String)?

        init(_ name: String, _ status: Int32, _ says: String, allowed: (Int32, String)? = nil) {
            self.init(Array(name.utf8), status, says, allowed: allowed)
        }

        init(_ bytes: [UInt8], _ status: Int32, _ says: String, allowed: (Int32, String)? = nil) {
            self.bytes = bytes
            self.status = status
            self.says = says
            whenAllowed = allowed.map { ($0.0, $0.1) }
        }

        var description: String { String(String(decoding: bytes, as: UTF8.self).prefix(40)).debugDescription }

        private static let out = "leads out of the directory"
        private static let absolute = "absolute name"
        private static let special = "not a regular file"

        static let hostile = [
            Name("../outside", 65, out, allowed: (0, "")), Name("sub/../../outside", 65, out, allowed: (0, "")),
            Name("sub/../sub/../../outside", 65, out, allowed: (0, "")), Name("..", 65, out, allowed: (65, special)),
            Name("OUTSIDE", 65, absolute, allowed: (0, "")), Name("/etc/hostname", 65, absolute, allowed: (0, "")),
            Name("//etc/hostname", 65, absolute, allowed: (0, "")),
            Name("file:/etc/hostname", 65, absolute, allowed: (0, "")),
            Name("link-outside", 65, out, allowed: (0, "")), Name("link-absolute", 65, out, allowed: (0, "")),
            Name("link-up/outside", 65, out, allowed: (0, "")), Name("sub/link-up/outside", 65, out, allowed: (0, "")),
            Name("link-link", 65, out, allowed: (0, "")), Name("link-loop", 65, "loop of links"),
            Name("link-proc", 65, out, allowed: (65, "link of the system")),
            Name("fifo", 65, special), Name("socket", 65, special), Name("sub", 65, special), Name(".", 65, special),
            Name("/dev/null", 65, absolute, allowed: (65, special)),
            Name("/dev/zero", 65, absolute, allowed: (65, special)),
            Name("/dev/stdin", 65, absolute, allowed: (65, "link of the system")),
            Name("/proc/self/fd/0", 65, absolute, allowed: (65, "link of the system")),
            Name("/proc/self/exe", 65, absolute, allowed: (65, "link of the system")),
            Name("/proc/self/root/etc/hostname", 65, absolute, allowed: (65, "link of the system")),
            Name("/proc/self/cwd", 65, absolute, allowed: (65, "link of the system")),
            Name("/proc/self", 65, absolute, allowed: (65, special)),
            Name(
                "json:{\"driver\":\"file\",\"filename\":\"/etc/hostname\"}", 65, absolute, allowed: (0, "")),
            Name("json:{\"driver\":\"raw\",\"file.filename\":\"../outside\"}", 65, out, allowed: (0, "")),
            Name("json:", 65, "JSON"), Name("json:{\"driver\":\"nbd\",\"host\":\"x\"}", 65, "JSON"),
            Name("nbd:localhost:10809", 65, "protocol"), Name("nbd+unix:///?socket=/run/x", 65, "protocol"),
            Name("http://127.0.0.1:9/x", 65, "protocol"), Name("file://etc/hostname", 65, "protocol"),
            Name("file:///etc/hostname", 65, absolute, allowed: (0, "")),
            Name("fat:rw:/tmp", 65, "protocol"), Name("fd:0", 65, "protocol"), Name("a:base", 65, "protocol"),
            Name(":base", 65, "protocol"), Name("file:", 65, "no usable name"),
            Name(Array("base\0.raw".utf8), 65, "NUL"), Name([0], 65, "NUL"),
            Name([0x62, 0xFF, 0xFE], 65, "not UTF-8"), Name([0xC3], 65, "not UTF-8"),
            Name("none", 66, "is not there"), Name("sub/none", 66, "is not there"),
            Name("none/none", 66, "is not there"),
            Name("base/none", 66, "cannot be opened"),
            Name(String(repeating: "x", count: 1023), 66, "cannot be opened"),
            Name("a\nb", 65, "cannot be shown"), Name("\u{1B}[2Jbase", 65, "cannot be shown"),
            Name("x\u{202E}y", 65, "cannot be shown"),
            Name("no'; touch pwned; '", 66, "is not there"),
        ]
    }

    @Test(arguments: Name.hostile)
    func `a hostile name is refused with a sentence, as a backing file and as a data file`(_ name: Name) async throws {
        try await withPlaces { directory, place in
            var bytes = name.bytes
            if bytes == Array("OUTSIDE".utf8) { bytes = Array(directory.file("outside").utf8) }
            for isData in [false, true] {
                let image = HostileImage(
                    backing: isData ? nil : bytes, format: isData ? nil : "raw", dataFile: isData ? bytes : nil)
                let path = try image.write(to: "\(place)/image")
                let arguments = ["serve", path, "--socket", directory.file("s")]
                let what = isData ? "external data file" : "backing file"
                // QEMU is of two minds whether the name of a data file can be more than a path.
                let isDoubtful = isData && (bytes.firstIndex(of: 0x3A) ?? .max) < (bytes.firstIndex(of: 0x2F) ?? .max)
                let name = isDoubtful ? Name(bytes, 65, "some versions of QEMU") : name
                try await Program.expectRefusal(arguments, status: name.status, saying: path, what, name.says)
                try await Program.expectRefusal(
                    arguments + ["--references", "deny"], status: name.status == 66 ? 65 : name.status, saying: path)
                try await allow(name, arguments + ["--references", "allow"], path, directory)
                // Nothing is opened to tell about the image.
                let report = try await InfoReport.of(path)
                #expect(report.virtualSize == 1 << 20)
            }
        }
    }

    private func allow(
        _ name: Name, _ arguments: [String], _ path: String, _ directory: TemporaryDirectory
    ) async throws {
        let expected = name.whenAllowed ?? (name.status, name.says)
        guard expected.status == 0 else {
            return try await Program.expectRefusal(arguments, status: expected.status, saying: path, expected.says)
        }
        try await ServerUnderTest.run(arguments, in: directory) { server in
            let client = try LibNBDClient(server.uri)
            #expect(client.size == 1 << 20)
        }
    }

    @Test(arguments: [
        "base", "./base", "sub/base", "sub/../base", "link-inside", "link-sub/base", "sub/link-up-inside/base",
        "./with:colon", "file:base", "json:{\"driver\":\"file\",\"filename\":\"base\"}", "gr\u{F6}\u{DF}e \u{2603}",
        "-f", "quote'",
    ])
    func `names within the directory are opened, through links and detours too`(_ name: String) async throws {
        try await withPlaces { directory, place in
            let contents = try File.contents("\(place)/base")
            let path = try HostileImage(backing: name).write(to: "\(place)/image")
            let socket = ["--socket", directory.file("s")]
            try await ServerUnderTest.run(["serve", path] + socket, in: directory) { server in
                try server.expect(contents)
            }
            let refused = try await Program.run(["serve", path, "--references", "deny"] + socket)
            #expect(refused.code == 65 && refused.errors.contains("--references deny"), "\(refused.errors)")
            // What the sentence says to type can be pasted into a shell.
            let advice = try #require(
                refused.errors.split(separator: "\n").last?.split(separator: "to open it, add ").last)
            try await Tool.shell(
                "'\(try Program.path)' serve '\(path)' --references deny \(advice) --run 'nbdcopy $uri \(place)/copy'")
            #expect(Difference.describe(try File.contents("\(place)/copy"), contents) == nil)
        }
    }

    @Test func `a relative image path, and a relative --allow-reference, start where the program was started`()
        async throws
    {
        try await withPlaces { directory, place in
            try HostileImage(backing: "sub/base").write(to: "\(place)/image")
            try HostileImage(backing: "../outside").write(to: "\(place)/climbing")
            let program = try Program.path
            for line in [
                "cd \(place); P serve image", "cd \(place)/sub; P serve ../image", "cd \(place); P serve ./image",
                "cd \(place); P serve climbing --allow-reference ../outside",
                "cd \(directory.path); P serve images/climbing --allow-reference ./outside",
                "cd /; P serve \(place)/climbing --allow-reference \(directory.path)/images/../outside",
            ] {
                let size = try await Tool.shell(
                    line.replacing("P serve", with: "'\(program)' serve") + " --run 'nbdinfo --size $uri'")
                #expect(size == "\(1 << 20)\n", "\(line)")
            }
        }
    }

    @Test func `--allow-reference opens what it names, and nothing else`() async throws {
        try await withPlaces { directory, place in
            let outside = directory.file("outside")
            let contents = try File.contents(outside)
            for name in ["../outside", outside, "link-outside"] {
                let path = try HostileImage(backing: name).write(to: "\(place)/image")
                let arguments = ["serve", path, "--socket", directory.file("s")]
                // A link is listed under its own name.
                let listed = name == "link-outside" ? "\(place)/link-outside" : outside
                for policy in ["deny", "same-directory"] {
                    try await ServerUnderTest.run(
                        arguments + ["--references", policy, "--allow-reference", listed], in: directory
                    ) { server in
                        try server.expect(contents)
                    }
                    for other in ["\(outside)x", directory.path, "/", "\(place)/base"] {
                        let outcome = try await Program.run(
                            arguments + ["--references", policy, "--allow-reference", other])
                        #expect(outcome.code == 65, "\(other): \(outcome.errors)")
                    }
                }
            }
        }
    }

    @Test func `what a backing file names starts in its own directory, and must stay there`() async throws {
        try await withPlaces { directory, place in
            let socket = ["--socket", directory.file("s")]
            let top = try HostileImage(backing: "sub/middle", format: "qcow2").write(to: "\(place)/top")
            try HostileImage(backing: "base").write(to: "\(place)/sub/middle")
            let contents = try File.contents("\(place)/sub/base")
            try await ServerUnderTest.run(["serve", top] + socket, in: directory) { server in
                try server.expect(contents)
            }
            // Above its own directory, though still beneath that of the top.
            try HostileImage(backing: "../base").write(to: "\(place)/sub/middle")
            try await Program.expectRefusal(
                ["serve", top] + socket, status: 65, saying: "layer 1", "leads out of the directory")
        }
    }

    @Test func `a loop is refused, through links of every kind`() async throws {
        try await withPlaces { directory, place in
            func refuse(_ path: String, _ arguments: [String] = []) async throws {
                try await Program.expectRefusal(
                    ["serve", path, "--socket", directory.file("s")] + arguments, status: 65, saying: "chain")
            }
            let own = try HostileImage(backing: "a", format: "qcow2").write(to: "\(place)/a")
            try await refuse(own)
            try HostileImage(backing: "b", format: "qcow2").write(to: own)
            try HostileImage(backing: "./a", format: "qcow2").write(to: "\(place)/b")
            try await refuse(own)
            try await refuse("\(place)/b")
            // As raw it would be the image's own bytes.
            try HostileImage(backing: "a", format: "raw").write(to: own)
            try await refuse(own)
            try await Tool.shell("cd \(place); ln a hard; ln -s a soft")
            for name in ["hard", "soft", "sub/../soft"] {
                try HostileImage(backing: name, format: "qcow2").write(to: "\(place)/c")
                try await Tool.shell("cd \(place); cat c > a")
                try await refuse(own)
            }
            for name in ["d", "./d", "d-hard"] {
                let data = try HostileImage(dataFile: name).write(to: "\(place)/d")
                try await Tool.shell("cd \(place); ln -f d d-hard")
                try await refuse(data)
            }
        }
    }

    @Test func `the length of a name has a limit`() async throws {
        try await withPlaces { directory, place in
            let name = String(repeating: "./", count: 509) + "/base"
            #expect(name.utf8.count == 1023)
            let path = try HostileImage(backing: name).write(to: "\(place)/image")
            let contents = try File.contents("\(place)/base")
            try await ServerUnderTest.run(["serve", path, "--socket", directory.file("s")], in: directory) { server in
                try server.expect(contents)
            }
            try HostileImage(backing: "/" + name).write(to: path)
            try await Program.expectRefusal(
                ["serve", path, "--socket", directory.file("s")], status: 65, saying: "backing_file_size", "1024")
            try HostileImage(dataFile: String(repeating: "x", count: 3000)).write(to: path)
            let outcome = try await Program.run(["serve", path, "--socket", directory.file("s")])
            #expect(outcome.code == 65 && outcome.errors.utf8.count < 3000, "\(outcome.errors)")
        }
    }

    @Test(arguments: ["file", "directory"])
    func `a link that is swapped while the program starts never has a file outside read`(_ kind: String) async throws {
        try await withPlaces { directory, place in
            // Either the file is a link, or its directory is; outside, there is a file of the same name.
            let isFile = kind == "file"
            try await Tool.shell(
                "cd \(directory.path); mkdir elsewhere; cp outside elsewhere/base; ln -s \(isFile ? "base" : "sub") \(place)/swap"
            )
            let path = try HostileImage(backing: isFile ? "swap" : "swap/base").write(to: "\(place)/image")
            let targets = isFile ? ["base", directory.file("outside")] : ["sub", directory.file("elsewhere")]
            let result = try await Tool.succeed(
                "python3",
                [Program.helper("shape_swap.py"), "\(place)/swap"] + targets
                    + ["\(place)/base", directory.file("outside"), "100", try Program.path, "serve", path])
            let numbers = result.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
            try #require(numbers.count == 3)
            #expect(numbers[1] == 0, "the file outside was read")
            #expect(numbers[0] > 0 && numbers[2] > 0 && numbers[0] + numbers[2] == 100, "\(result)")
        }
    }

    @Test func `info opens nothing that an image names, whatever the policy would be`() async throws {
        try await withPlaces { directory, place in
            for isData in [false, true] {
                let name = Array("base".utf8)
                let image = HostileImage(
                    backing: isData ? nil : name, format: "raw", dataFile: isData ? name : nil)
                let path = try image.write(to: "\(place)/image")
                let watched = try await Tool.succeed(
                    "python3",
                    [Program.helper("watch_opens.py"), "\(place)/base", try Program.path, "info", path])
                #expect(watched == "0 0\n", "status and number of opens")
            }
        }
    }

    /// A directory of images with files of every kind, in a directory with a file that is no business of theirs.
    private func withPlaces(_ body: (TemporaryDirectory, _ place: String) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try directory.write("outside", DiskContents(mark: 0x66).bytes(at: 0, count: 1 << 20, .noise))
        try directory.write("base.raw", DiskContents(mark: 0x11).bytes(at: 0, count: 1 << 20, .plain))
        try await Tool.shell(
            """
            mkdir -p \(directory.path)/images/sub; cd \(directory.path)/images; mv ../base.raw base
            cp base sub/base; cp base with:colon; cp base 'gr\u{F6}\u{DF}e \u{2603}'; cp base ./-f; cp base "quote'"
            ln -s ../outside link-outside; ln -s \(directory.path)/outside link-absolute; ln -s .. link-up
            ln -s ../.. sub/link-up; ln -s .. sub/link-up-inside; ln -s link-outside link-link; ln -s link-loop link-loop
            ln -s /proc/self/fd/0 link-proc; ln -s base link-inside; ln -s sub link-sub
            mkfifo fifo; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
            """)
        try await body(directory, directory.file("images"))
    }
}
