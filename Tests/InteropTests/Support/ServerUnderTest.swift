// SPDX-License-Identifier: Apache-2.0

import Foundation
import Subprocess
import SystemPackage
import Testing

/// A running `nbdecrypt serve`.
struct ServerUnderTest: Sendable {
    /// How a server is expected to end.
    enum Ending: Sendable {
        /// By a signal, sent after the body; the exit status must be 0.
        case signal(Signal)
        /// By itself, soon after the body; the test looks at the status.
        case byItself
    }

    /// As printed, on standard output, or on standard error where the sockets are somebody else's.
    let uri: String
    /// All of that when it was ready.
    let instructions: String
    let processIdentifier: pid_t
    private let errorPath: String

    /// The standard error so far.
    var errors: String { get throws { try File.text(errorPath) } }

    /// Waits until one of `parts` is in the standard error: it is written behind the back of those who serve.
    func expectError(_ parts: String...) async throws {
        try await Deadline.wait(seconds: 10, for: "the server says \(parts.joined(separator: " or "))") {
            let text = try errors
            return parts.contains { text.contains($0) } ? () : nil
        }
    }

    /// The path of its Unix socket.
    var socketPath: String? {
        guard let components = URLComponents(string: uri) else { return nil }
        return components.queryItems?.first { $0.name == "socket" }?.value
    }

    /// The TCP port.
    var port: Int? { URLComponents(string: uri)?.port }

    /// Resident memory now, or at its highest, in bytes.
    func residentMemory(highest: Bool = false) throws -> Int {
        let name = highest ? "VmHWM:" : "VmRSS:"
        let line = try File.text("/proc/\(processIdentifier)/status").split(separator: "\n")
            .first { $0.hasPrefix(name) }
        let kibibytes = line?.split(separator: " ").compactMap { Int($0) }.first
        return try #require(kibibytes) * 1024
    }

    /// Processor time that it has used so far, in clock ticks.
    func processorTicks() throws -> Int {
        let text = try File.text("/proc/\(processIdentifier)/stat")
        // The name before it may hold anything.
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        return try #require(Int(fields[12])) + #require(Int(fields[13]))
    }

    /// How many clients are connected, or were and have not been let go.
    var connectionCount: Int {
        get throws {
            if let socketPath {
                return try SocketTable.unix(path: socketPath).count { $0.state == SocketTable.unixConnected }
            }
            return try SocketTable.tcp(port: try #require(port)).count { SocketTable.tcpOpen.contains($0.state) }
        }
    }

    /// Starts `nbdecrypt`, or a program that becomes it, with these arguments, does `body` once it listens, and ends it.
    ///
    /// After an ending by signal the exit status must be 0 and, if it `ownsSocket`, its Unix socket must be gone.
    @discardableResult
    static func run(
        _ arguments: [String], ending: Ending = .signal(.terminate), input: String? = nil,
        environment: [String: String?] = [:], program: String? = nil, ownsSocket: Bool = true,
        in directory: TemporaryDirectory,
        sourceLocation: SourceLocation = #_sourceLocation, _ body: (ServerUnderTest) async throws -> Void
    ) async throws -> Tool.Outcome {
        let number = UInt32.random(in: 0...UInt32.max)
        let outputPath = directory.file("output-\(number)")
        let errorPath = directory.file("errors-\(number)")
        let command = try [program ?? Program.path] + arguments
        var socketPath: String?
        let status = try await launch(
            command, environment, input: input ?? "/dev/null", outputPath, errorPath
        ) { execution in
            let pid = execution.processIdentifier.value
            do {
                let (uri, text) = try await listening(pid, outputPath, errorPath)
                let server = ServerUnderTest(
                    uri: uri, instructions: text, processIdentifier: pid, errorPath: errorPath)
                socketPath = server.socketPath
                try await body(server)
                if case .signal(let signal) = ending { try execution.send(signal: signal) }
                _ = try await Deadline.wait(for: "\(command.joined(separator: " ")) has ended") {
                    hasEnded(pid) ? true : nil
                }
            } catch {
                try? execution.send(signal: .kill)
                throw error
            }
        }
        let errors = try File.text(errorPath)
        if case .signal = ending {
            #expect(status == .exited(0), "\(errors)", sourceLocation: sourceLocation)
            if let socketPath, ownsSocket {
                #expect(!File.exists(socketPath), "the socket is gone", sourceLocation: sourceLocation)
            }
        }
        return Tool.Outcome(
            command: command.joined(separator: " "), status: status, output: try File.text(outputPath),
            errors: errors)
    }

    private typealias Child = Execution<FileDescriptorInput, FileDescriptorOutput, FileDescriptorOutput>

    /// Output goes to files: a server that nobody listens to does not wait.
    private static func launch(
        _ command: [String], _ environment: [String: String?], input: String, _ outputPath: String,
        _ errorPath: String, _ body: (Child) async throws -> Void
    ) async throws -> TerminationStatus {
        func create(_ path: String) throws -> FileDescriptor {
            try FileDescriptor.open(
                FilePath(path), .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: .ownerReadWrite)
        }
        var variables: [Environment.Key: String?] = [:]
        for (name, value) in environment {
            if let key = Environment.Key(rawValue: name) { variables[key] = value }
        }
        let program = command[0]
        return try await Subprocess.run(
            program.contains("/") ? .path(FilePath(program)) : .name(program),
            arguments: Arguments(Array(command.dropFirst())), environment: .inherit.updating(variables),
            input: .fileDescriptor(
                try .open(FilePath(input), .readOnly, options: .closeOnExec), closeAfterSpawningProcess: true),
            output: .fileDescriptor(try create(outputPath), closeAfterSpawningProcess: true),
            error: .fileDescriptor(try create(errorPath), closeAfterSpawningProcess: true), body: body
        ).terminationStatus
    }

    /// Waits for the URI.
    private static func listening(
        _ pid: pid_t, _ outputPath: String, _ errorPath: String
    ) async throws -> (uri: String, text: String) {
        try await Deadline.wait(for: "the server prints where it listens") {
            var text = try File.text(outputPath)
            // With inherited sockets, and --verbose.
            if text.isEmpty { text = try File.text(errorPath) }
            if text.contains("Stop with"),
                let found = text.firstMatch(of: /^\s*(nbds?(\+unix|\+vsock)?:\/\/\S+)$/.anchorsMatchLineEndings())
            {
                return (String(found.1), text)
            }
            guard !hasEnded(pid) else {
                throw Deadline.Missed(description: "the server ended at once: \(try File.text(errorPath))")
            }
            return nil
        }
    }

    /// Has a child ended that nobody has waited for?
    private static func hasEnded(_ pid: pid_t) -> Bool {
        guard let text = try? File.text("/proc/\(pid)/stat"), let end = text.lastIndex(of: ")") else { return true }
        return text[end...].dropFirst(2).first == "Z"
    }
}
