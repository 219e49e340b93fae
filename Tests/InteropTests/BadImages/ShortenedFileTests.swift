// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Files that become shorter while they are served: what they have lost is an error to everybody, and nobody's zeros.
@Suite(.fewAtATime)
struct ShortenedFileTests {
    enum Shape: String, CaseIterable, Sendable {
        case raw, base, data, qcow2, qcow, luks
    }

    private static let size = 4 << 20

    @Test(arguments: Shape.allCases, [false, true])
    func `a copy of what a file has lost fails, and block status says data`(_ shape: Shape, detectsZeros: Bool)
        async throws
    {
        try await withShape(shape) { directory, arguments, file in
            let options = ["--socket", directory.file("s")] + (detectsZeros ? ["--detect-zeroes"] : [])
            try await ServerUnderTest.run(["serve"] + arguments + options, in: directory) { server in
                let copy = directory.file("copy")
                try await Tool.succeed("nbdcopy", [server.uri, copy])
                // Tables are at the start of a file, and are not lost.
                try await Tool.succeed("truncate", ["-s", "\(try File.size(file) - 2 << 20)", file])
                let map = try await BlockMap.nbdinfo(server.uri, "base:allocation")
                #expect(map.runs.map(\.value) == [0], "\(map)")
                for (program, arguments) in [
                    ("nbdcopy", [server.uri, copy]),
                    ("qemu-img", ["convert", "-f", "raw", "-O", "raw", server.uri, copy]),
                ] {
                    let outcome = try await Tool.run(program, arguments)
                    #expect(outcome.code == 1 && outcome.errors.contains("Input/output error"), "\(outcome.errors)")
                }
            }
        }
    }

    @Test func `what a client writes to a file that has become shorter is refused, and the file does not grow`()
        async throws
    {
        try await withShape(.raw) { directory, arguments, file in
            let options = ["--writable", "--socket", directory.file("s")]
            let outcome = try await ServerUnderTest.run(
                ["serve"] + arguments + options, ending: .byItself, in: directory
            ) { server in
                try await Tool.succeed("truncate", ["-s", "1M", file])
                for command in ["write 3M 4k", "write -z 3M 4k", "write -f 2M 512", "write 0 512"] {
                    let outcome = try await Tool.run("qemu-io", ["-f", "raw", server.uri, "-c", command])
                    #expect("\(outcome.output)\(outcome.errors)".contains("Input/output error"), "\(command)")
                }
                let length = try File.size(file)
                #expect(length == 1 << 20)
                try await Tool.shell("kill \(server.processIdentifier)")
            }
            #expect(outcome.code == 74 && outcome.errors.contains("not all that was written is on disk"))
        }
    }

    private func withShape(
        _ shape: Shape, _ body: (TemporaryDirectory, _ arguments: [String], _ file: String) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let file = try directory.write(
            "plain", DiskContents(mark: 0x33).bytes(at: 0, count: Self.size, .noise))
        let image = directory.file("image")
        func convert(_ format: String) async throws {
            // It looks for a data file where it runs.
            let arguments = ["convert", "-n", "-f", "raw", "-O", format, file, image]
            try await Tool.succeed("env", ["-C", directory.path, "qemu-img"] + arguments)
        }
        let maker = ShapeMaker(directory: directory)
        switch shape {
        case .raw: return try await body(directory, ["-f", "raw", file], file)
        case .base:
            _ = try await maker.create(.qcow2, "image", size: Self.size, backing: ("plain", "raw"))
            return try await body(directory, [image], file)
        case .data:
            let options = ["data_file=data", "data_file_raw=on"]
            _ = try await maker.create(.qcow2, "image", size: Self.size, options: options)
            try await convert("qcow2")
            return try await body(directory, [image], directory.file("data"))
        case .qcow2, .qcow:
            _ = try await maker.create(shape == .qcow ? .qcow : .qcow2, "image", size: Self.size)
            try await convert(shape.rawValue)
            return try await body(directory, [image], image)
        case .luks:
            let container = try await LUKSMaker(directory: directory).format()
            let key = try directory.write("key", text: "correct horse")
            return try await body(directory, [container, "--passphrase-file", key], container)
        }
    }
}
