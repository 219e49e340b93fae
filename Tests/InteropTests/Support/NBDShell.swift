// SPDX-License-Identifier: Apache-2.0

/// libnbd's Python shell: scripts in which `h` is a client and `nbd` the module.
enum NBDShell {
    /// Runs a script on a connected client.
    /// - Returns: what it prints.
    /// - Throws: ``Tool/Failed`` when a statement of it fails.
    @discardableResult
    static func run(_ uri: String, _ script: String) async throws -> String {
        // A Python that somebody has put into the path knows nothing of Debian's modules.
        try await Tool.succeed(
            "/usr/bin/nbdsh", ["-u", uri, "-c", script], environment: ["PATH": "/usr/bin:/bin"])
    }
}
