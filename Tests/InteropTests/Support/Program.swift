// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The program under test, and runs of it that end by themselves.
enum Program {
    /// The root of the package.
    static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    /// There is no binary to test.
    struct Missing: Error, CustomStringConvertible {
        let description: String
    }

    /// The binary: `$NBDECRYPT`, else the release build, else the debug build.
    static var path: String {
        get throws {
            let environment = ProcessInfo.processInfo.environment["NBDECRYPT"]
            let candidates = environment.map { [$0] } ?? ["release", "debug"].map { "\(root)/.build/\($0)/nbdecrypt" }
            guard let found = candidates.first(where: FileManager.default.isExecutableFile) else {
                throw Missing(
                    description: "none of \(candidates.joined(separator: ", ")) is there: build nbdecrypt first")
            }
            return found
        }
    }

    /// A script beside the tests, run with `python3`.
    static func helper(_ name: String) -> String { "\(root)/Tests/InteropTests/Helpers/\(name)" }

    /// Runs the program to its end.
    static func run(
        _ arguments: [String], input: [UInt8] = [], environment: [String: String?] = [:]
    ) async throws -> Tool.Outcome {
        try await Tool.run(path, arguments, input: input, environment: environment)
    }

    /// Runs the program, which must refuse: with this status, one line on standard error that has all of `parts` in
    /// it, besides warnings and the names of files that it has opened, and nothing on standard output.
    static func expectRefusal(
        _ arguments: [String], status: Int32, saying parts: String..., input: [UInt8] = [],
        environment: [String: String?] = [:], sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let outcome = try await run(arguments, input: input, environment: environment)
        expectRefusal(outcome, status: status, saying: parts, sourceLocation: sourceLocation)
    }

    /// The same of a run that has ended.
    static func expectRefusal(
        _ outcome: Tool.Outcome, status: Int32, saying parts: [String],
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(outcome.code == status, "\(outcome.command): \(outcome.errors)", sourceLocation: sourceLocation)
        #expect(outcome.output.isEmpty, "standard output", sourceLocation: sourceLocation)
        let lines = outcome.errors.split(separator: "\n").filter {
            !$0.hasPrefix("nbdecrypt: warning: ") && !$0.hasPrefix("nbdecrypt: layer ")
        }
        #expect(lines.count == 1, "one sentence: \(outcome.errors)", sourceLocation: sourceLocation)
        #expect(lines.first?.hasPrefix("nbdecrypt: ") ?? false, "\(outcome.errors)", sourceLocation: sourceLocation)
        for part in parts {
            #expect(
                lines.last?.contains(part) ?? false, "'\(part)' in: \(outcome.errors)", sourceLocation: sourceLocation)
        }
    }
}
