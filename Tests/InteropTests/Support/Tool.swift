// SPDX-License-Identifier: Apache-2.0

import Foundation
import Subprocess
import SystemPackage

/// Runs programs to their end.
enum Tool {
    /// How a program ended and what it said.
    struct Outcome: Sendable {
        /// Program and arguments, for messages.
        let command: String
        let status: TerminationStatus
        let output: String
        let errors: String

        /// The exit status; negative is the number of the signal that ended it.
        var code: Int32 {
            switch status {
            case .exited(let code): code
            case .signaled(let signal): -signal
            }
        }
    }

    /// A program ended with another status than the test counts on.
    struct Failed: Error, CustomStringConvertible {
        let description: String

        init(_ outcome: Outcome) {
            description = """
                \(outcome.command)
                ended with \(outcome.status)
                \(outcome.errors)\(outcome.output)
                """
        }
    }

    /// Runs a program, which may fail.
    /// - Throws: when it cannot be started, or takes longer than `seconds`.
    static func run(
        _ name: String, _ arguments: [String], input: [UInt8] = [], environment: [String: String?] = [:],
        seconds: Int = 300
    ) async throws -> Outcome {
        try await run(name.contains("/") ? .path(FilePath(name)) : .name(name), arguments, input, environment, seconds)
    }

    private static func run(
        _ executable: Executable, _ arguments: [String], _ input: [UInt8], _ environment: [String: String?],
        _ seconds: Int
    ) async throws -> Outcome {
        let command = ([executable.description] + arguments).joined(separator: " ")
        // Not every user has the directories of nbd-client and mkfs in the path.
        let path = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin") + ":/usr/sbin:/sbin"
        var variables: [Environment.Key: String?] = ["LC_ALL": "C", "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"]
        for (name, value) in environment {
            if let key = Environment.Key(rawValue: name) { variables[key] = value }
        }
        let inherited = Environment.inherit.updating(variables)
        return try await Deadline.seconds(seconds, for: command) {
            let result = try await Subprocess.run(
                executable, arguments: Arguments(arguments), environment: inherited,
                input: .array(input), output: .string(limit: 64 << 20), error: .string(limit: 64 << 20))
            return Outcome(
                command: command, status: result.terminationStatus, output: result.standardOutput,
                errors: result.standardError)
        }
    }

    /// Runs a program that must succeed.
    /// - Returns: its standard output.
    /// - Throws: ``Failed`` with all that it said when it does not.
    @discardableResult
    static func succeed(
        _ name: String, _ arguments: [String], input: [UInt8] = [], environment: [String: String?] = [:],
        seconds: Int = 300
    ) async throws -> String {
        let outcome = try await run(name, arguments, input: input, environment: environment, seconds: seconds)
        guard outcome.status == .exited(0) else { throw Failed(outcome) }
        return outcome.output
    }

    /// Runs a line of shell that must succeed.
    /// - Returns: its standard output.
    @discardableResult
    static func shell(_ line: String, environment: [String: String?] = [:]) async throws -> String {
        try await succeed("/bin/bash", ["-c", "set -e; \(line)"], environment: environment)
    }
}
