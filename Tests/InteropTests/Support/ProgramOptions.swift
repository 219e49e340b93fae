// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The options of the program and its commands, as they are declared.
struct ProgramOptions {
    /// Whether an option takes a value, by its names, e.g. "--format" and "-f".
    let takesValue: [String: Bool]
    /// The names of the commands.
    let commands: Set<String>

    /// Asks the program.
    static func read() async throws -> ProgramOptions {
        let text = try await Tool.succeed(try Program.path, ["--experimental-dump-help"])
        let root = try JSONDecoder().decode(Dump.self, from: Data(text.utf8)).command
        var takesValue: [String: Bool] = [:]
        for command in [root] + (root.subcommands ?? []) {
            for argument in command.arguments ?? [] where argument.kind != "positional" {
                for name in argument.names ?? [] {
                    takesValue[(name.kind == "short" ? "-" : "--") + name.name] = argument.kind == "option"
                }
            }
        }
        return ProgramOptions(takesValue: takesValue, commands: Set((root.subcommands ?? []).map(\.commandName)))
    }

    private struct Dump: Decodable {
        let command: Command
    }

    private struct Command: Decodable {
        let commandName: String
        let subcommands: [Command]?
        let arguments: [Argument]?
    }

    private struct Argument: Decodable {
        let kind: String
        let names: [Name]?
    }

    private struct Name: Decodable {
        let kind: String
        let name: String
    }
}
