// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A running qemu-nbd, to compare with.
struct QEMUServer: Sendable {
    let uri: String

    /// Runs `qemu-nbd --read-only` with these arguments, does `body`, and ends it.
    static func run(
        _ arguments: [String], in directory: TemporaryDirectory, _ body: (QEMUServer) async throws -> Void
    ) async throws {
        let number = UInt32.random(in: 0...UInt32.max)
        let (socket, pidFile) = (directory.file("q\(number)"), directory.file("qemu-\(number).pid"))
        // It keeps standard error open when it forks.
        try await Tool.succeed(
            "/bin/bash",
            ["-c", "log=$1; shift; qemu-nbd \"$@\" 2> $log || { cat $log >&2; false; }", "bash"]
                + [directory.file("qemu-\(number).log"), "--read-only", "--persistent", "--shared=4", "--fork"]
                + ["--pid-file", pidFile, "-k", socket] + arguments)
        let result: Result<Void, any Error>
        do {
            result = .success(try await body(QEMUServer(uri: "nbd+unix:///?socket=\(socket)")))
        } catch { result = .failure(error) }
        let pid = try File.text(pidFile).trimmingCharacters(in: .whitespacesAndNewlines)
        try await Tool.shell("kill \(pid); while kill -0 \(pid) 2>/dev/null; do sleep 0.02; done")
        try result.get()
    }
}
