// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Dispatch
import Logging
import NBDServer

/// `nbdecrypt serve`
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve an image over NBD until it is stopped.",
        discussion: """
            Without --socket, --bind and --port it listens on a Unix socket in a private directory and prints its \
            address with commands to paste. Sockets of a service manager (LISTEN_FDS) are used when there are any.

            \(ExitStatus.explanation)
            """)

    @OptionGroup var image: ImageOptions
    @OptionGroup(title: "Where to listen") var listening: ListenOptions
    @OptionGroup(title: "Passphrase") var secret: SecretOptions
    @OptionGroup(title: "LUKS") var unlock: UnlockOptions

    @Flag(name: .long, help: "Serve even if the passphrase of an AES image does not seem to fit.")
    var noPassphraseCheck = false

    @Flag(name: .long, help: "Serve what is left of an image that has lost a part.")
    var allowDamaged = false

    @Flag(name: .long, help: "Serve even if another program writes to the image, and do not keep others from it.")
    var forceShare = false

    @Option(
        name: [.customShort("x"), .long],
        help: ArgumentHelp(
            "The export's name. Clients that ask for the default get it too.", valueName: "name"))
    var exportName = ""

    @Flag(
        name: .long,
        help: """
            Exit when the last client that transferred data has gone. One that read no more than \
            \(Server.probeLimit / 1024) KiB has only looked, as nbdinfo does.
            """)
    var once = false

    @Option(
        name: .customLong("run"),
        help: ArgumentHelp(
            "Run a shell command with $uri and $unixsocket (or $port) set, and exit with its status when it ends.",
            valueName: "command"))
    var shellCommand: String?

    @Option(name: .long, help: ArgumentHelp("Write the process id to a file once listening.", valueName: "path"))
    var pidFile: String?

    @Option(name: .long, help: ArgumentHelp("How many clients may be connected.", valueName: "n"))
    var maxConnections = 1024

    @Flag(name: .shortAndLong, help: "Say more; twice: also what each client does.")
    var verbose: Int

    func validate() throws {
        guard exportName.utf8.count <= Server.maximumNameLength else {
            throw ValidationError("The export name is longer than \(Server.maximumNameLength) bytes.")
        }
        guard shellCommand?.isEmpty != true else { throw ValidationError("--run takes a shell command.") }
        guard shellCommand == nil || !once else {
            throw ValidationError("--run and --once both say when to end; give one of them.")
        }
        guard maxConnections > 0 else { throw ValidationError("--max-connections takes a number above 0.") }
    }

    func run() async throws {
        let log = StandardErrorLog.make(verbosity: verbose)
        Process.raiseDescriptorLimit()
        // First the addresses, so that a wrong one is told before anybody types a passphrase. Clients come when the keys
        // are there: none of them waits for a key derivation.
        let termination = Termination()
        let plan = try listening.prepare()
        let stack = try DeviceStack(
            DeviceStack.Options(
                path: image.image, format: image.format, luksHeader: unlock.header, unlock: unlock.unlock,
                checksPassphrase: !noPassphraseCheck, allowsDamage: allowDamaged, sharesWithWriters: forceShare),
            ring: SecretRing(secret, termination: termination, log: log), log: log)
        let place = try ListeningPlace(plan)
        let cleanUp = termination.begin { place.remove() }
        defer { termination.end(cleanUp) }
        let status = try await Serving(
            command: self, stack: stack, place: place, log: log, termination: termination
        ).run()
        if status != 0 { throw ExitCode(status) }
    }
}
