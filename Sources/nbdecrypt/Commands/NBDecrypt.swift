// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import DiskStack

@main
struct NBDecrypt: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nbdecrypt",
        abstract: "Serve encrypted disk images decrypted, over NBD.",
        discussion: """
            Serve an old AES-encrypted qcow2 image to QEMU, nbdcopy or nbd-client:

              nbdecrypt serve old.qcow2

            It asks for the passphrase, checks it against what is on the disk, and prints the commands that read the \
            disk. The image is opened read-only and never changed, unless a raw one is served with --writable.

            \(ExitStatus.explanation)
            """,
        version: "0.1.0",
        subcommands: [ServeCommand.self, MigrateCommand.self, InfoCommand.self, AuditCommand.self])

    /// Not asynchronous: that would end in a function of Dispatch that unblocks all signals in the main thread.
    static func main() {
        // Before any other thread exists, so that all of them inherit it.
        Process.blockSignals()
        Process.forbidDumps()
        Process.openStandardDescriptors()
        Task.detached { await execute() }
        Process.parkMainThread()
    }

    private static func execute() async -> Never {
        if let refusal = ArgumentText.refusal(ArgumentText.ofProcess) { end(Failure(.usage, refusal)) }
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
            Process.exit(ExitStatus.success.rawValue)
        } catch let failure as Failure {
            end(failure)
        } catch let error as OpeningError {
            end(Failure(error))
        } catch {
            end(error)
        }
    }

    private static func end(_ failure: Failure) -> Never {
        Process.printError(failure.description)
        Process.exit(failure.status.rawValue)
    }

    /// Says what the argument parser has to say: what was asked for, as `--help`, or what is wrong with the usage.
    private static func end(_ error: any Error) -> Never {
        let text = fullMessage(for: error)
        var status = exitCode(for: error).rawValue
        if status == ExitStatus.success.rawValue, !text.isEmpty {
            do throws(Failure) { try Process.printReport(text) } catch {
                Process.printError(error.description)
                status = error.status.rawValue
            }
        } else if !text.isEmpty {
            LineQueue.standardError.add("\(text)\n")
        }
        Process.exit(status)
    }
}
