// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Dispatch
import Logging
import NBDServer
import Subprocess
import SystemPackage

/// The server while it runs: from the first client to the last.
struct Serving {
    let command: ServeCommand
    /// The default one first.
    let exports: [Export]
    /// Commands that bring overlays into their images.
    let commits: [String]
    let place: ListeningPlace
    let tls: TLSPolicy
    /// Nil without TLS.
    let credentials: ClientCredentials?
    /// Shows what clients do; nil: nobody wants to know.
    let progress: DiskProgress?
    let log: Logger
    let termination: Termination

    /// Why the server stops.
    private enum End: Sendable {
        case signal(Int32)
        case transfersEnded
        case commandEnded(Int32)
    }

    /// How long clients may take to fetch the replies that are under way when the server stops.
    private static let patience = DispatchTimeInterval.seconds(5)

    /// Serves until something ends it.
    /// - Returns: the exit status.
    func run() async throws -> Int32 {
        let wereSecretsLocked = CommandSecrets.areSecretsLocked
        let (ends, continuation) = AsyncStream.makeStream(of: End.self)
        var limits = ServerLimits()
        limits.connections = try connectionLimit()
        limits.requestBytes = UInt32(command.maxRequest.bytes)
        let server = try server(limits) { [command] in
            if command.once { continuation.yield(.transfersEnded) }
        }
        termination.handleFirst { continuation.yield(.signal($0)) }
        // What was said of the images comes before what says that they are served.
        LineQueue.standardError.drain()
        let (_, pidCleanUp) = try termination.begin(making: { try command.pidFile.map { try PidFile($0) } }) {
            $0?.remove()
        }
        defer { termination.end(pidCleanUp) }

        tellState(of: server)
        for socket in place.sockets { server.listen(on: socket) }
        let instructions = Instructions(
            address: place.address, hostName: place.hostName, credentials: credentials, exports: exports,
            commits: commits, image: command.shownImage(exports))
        let child = command.shellCommand.map { start($0, instructions, continuation) }
        let output = announce(instructions, hasChild: child != nil)
        defer { output.drain() }

        var status: Int32 = 0
        loop: for await end in ends {
            switch end {
            case .signal(let number):
                log.info("stopping at signal \(number)")
                guard let child else { break loop }
                // The command decides how it ends, and its status is ours.
                child.cancel()
            case .transfersEnded:
                if child == nil { break loop }
            case .commandEnded(let number):
                status = number
                break loop
            }
        }
        await server.stop(patience: Self.patience)
        for (export, error) in server.flush() {
            log.error("\(export.name): not all that was written is on disk: \(error)")
            if status == 0 { status = ExitStatus.cannotWrite.rawValue }
        }
        progress?.end()
        if command.hasCoverage { try tellCoverage(&status) }
        // Contexts of ciphers are made when they are needed.
        if wereSecretsLocked { CommandSecrets.warnUnlessLocked(log) }
        log.info("clients have read \(server.bytesRead) bytes")
        return status
    }

    /// Says what clients have read, and writes it down where somebody wants it.
    private func tellCoverage(_ status: inout Int32) throws {
        let report = CoverageReport(exports)
        let isAsked = command.requireComplete || command.digest != nil || command.coverage != nil
        for line in report.lines(isAsked: isAsked) { log.notice("\(line)") }
        if let path = command.coverage {
            do { try NewFile.write(report.json, to: path, termination) } catch {
                log.error("the coverage cannot be written: \(error)")
                if status == 0 { status = ExitStatus.cannotWrite.rawValue }
            }
        }
        if command.requireComplete, status == 0, !report.isComplete { status = ExitStatus.incomplete.rawValue }
    }

    /// Logs what the server is doing whenever somebody asks with SIGUSR1, from a thread that waits for no other.
    private func tellState(of server: Server) {
        DispatchQueue(label: "nbdecrypt.state").async { [weak server] in
            while true {
                Process.waitForStateSignal()
                server?.logState()
            }
        }
    }

    /// As many clients as wanted, if there are descriptors for them.
    private func connectionLimit() throws(Failure) -> Int {
        let wanted = command.maxConnections
        guard let (limit, used) = Process.descriptors else { return wanted }
        // Each event loop and each listener have one, and some files are opened later.
        let reserved = max(2, Process.processorCount) + place.sockets.count + 4
        let possible = limit - used - reserved
        guard possible > 0 else {
            throw Failure(
                .cannotOpen,
                "\(limit) open files (`ulimit -n`) leave none for clients: \(used) are in use; raise the limit")
        }
        guard possible < wanted else { return wanted }
        log.warning(
            "\(possible) clients are let in at the same time, not \(wanted) (--max-connections): only \(limit) files may be open; raise that with `ulimit -n` or LimitNOFILE="
        )
        return possible
    }

    /// Prints the instructions where somebody may read them; nobody waits for that.
    ///
    /// Standard output belongs to a command that runs beside the server; and with inherited sockets to whoever made
    /// these, as a client that starts its own server and writes the copy there.
    /// - Returns: where they are printed.
    private func announce(_ instructions: Instructions, hasChild: Bool) -> LineQueue {
        let output = LineQueue(.standardOutput) { [log] error in
            log.warning("the address cannot be printed on standard output: \(error)")
        }
        if place.isInherited {
            log.info("\(instructions.text)")
        } else if !hasChild {
            output.add("\(instructions.text)\n")
        }
        return output
    }

    private func server(_ limits: ServerLimits, transfersEnded: @escaping @Sendable () -> Void) throws(Failure)
        -> Server
    {
        do throws(Errno) {
            return try Server(
                exports: ExportTable(exports), limits: limits, tls: tls, processorCount: Process.processorCount,
                log: log, transfersEnded: transfersEnded)
        } catch {
            throw Failure(.cannotOpen, "there is no file descriptor for the event loop: \(error); raise `ulimit -n`")
        }
    }

    /// Runs a shell command beside the server; cancelling the task ends the command.
    private func start(
        _ line: String, _ instructions: Instructions, _ continuation: AsyncStream<End>.Continuation
    ) -> Task<Void, Never> {
        var variables: [Environment.Key: String?] = [:]
        for (name, value) in instructions.environment {
            if let key = Environment.Key(rawValue: name) { variables[key] = value }
        }
        let environment = Environment.inherit.updating(variables)
        var options = PlatformOptions()
        options.teardownSequence = [.send(signal: .terminate, allowedDurationToNextStep: .seconds(5))]
        let platformOptions = options
        return Task {
            do {
                let result = try await Subprocess.run(
                    .path("/bin/sh"), arguments: ["-c", line], environment: environment,
                    platformOptions: platformOptions,
                    input: .currentStandardInput, output: .currentStandardOutput, error: .currentStandardError)
                switch result.terminationStatus {
                case .exited(let code): continuation.yield(.commandEnded(code))
                case .signaled(let signal): continuation.yield(.commandEnded(128 + signal))
                }
            } catch {
                log.error("cannot run the command: \(error)")
                continuation.yield(.commandEnded(ExitStatus.internalError.rawValue))
            }
        }
    }
}
