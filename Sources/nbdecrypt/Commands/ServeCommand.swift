// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import DiskStack
import Dispatch
import Logging
import NBDServer

/// `nbdecrypt serve`
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve images over NBD until it is stopped.",
        discussion: """
            Without --socket, --bind and --port it listens on a Unix socket in a private directory and prints its \
            address with commands to paste. Sockets of a service manager (LISTEN_FDS) are used when there are any. \
            At SIGUSR1 it says on standard error what it and its clients are doing.

            \(ExitStatus.explanation)
            """)

    @Argument(
        help: ArgumentHelp(
            "Image files or block devices; several are exports under their file names.", valueName: "image"))
    var images: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("Read what to serve from a JSON file; see the man page.", valueName: "path"))
    var config: String?

    @OptionGroup(title: "Where to listen") var listening: ListenOptions
    @OptionGroup(title: "TLS") var encryption: TLSOptions
    @OptionGroup var image: ServedImageOptions

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

    @Flag(
        name: .long,
        help: """
            Exit with status 2 unless clients have read all of the default export, and of each other one that they began with, but \
            for what they were told is zeros.
            """)
    var requireComplete = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "At the end, write what clients have read, and what not, to a file as JSON.", valueName: "path"))
    var coverage: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "At the end, and in the file of --coverage, say the digest of the disk if clients have read all of it: sha256, as migrate has it.",
            valueName: "hash"))
    var digest: DigestKind?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How to tell what clients have read and written of the default export: auto, map, lines, json or none, as migrate has them.",
            valueName: "style"))
    var progress = ProgressStyle.none

    @Option(name: .long, help: ArgumentHelp("Write the process id to a file once listening.", valueName: "path"))
    var pidFile: String?

    @Option(name: .long, help: ArgumentHelp("How many clients may be connected.", valueName: "n"))
    var maxConnections = 1024

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The longest read or write that is served, from 64K to 1G.",
            valueName: "size"))
    var maxRequest = ByteCount(bytes: 64 << 20)

    @Flag(name: .shortAndLong, help: "Say more; twice: also what each client does and negotiates.")
    var verbose: Int

    func validate() throws {
        guard !images.isEmpty || config != nil else {
            throw ValidationError("Missing expected argument '<image>': name an image.")
        }
        guard images.allSatisfy({ !$0.isEmpty }) else { throw ValidationError("The name of the image is empty.") }
        guard images.count <= 1 && config == nil || !image.isForOneImage else {
            throw ValidationError(
                "--partition, --logical-volume, --snapshot, --offset, --size, --bitmap, --header and --overlay-file are for one image; with several, use --exports "
                    + "or --config.")
        }
        guard exportName.utf8.count <= Server.maximumNameLength else {
            throw ValidationError("The export name is longer than \(Server.maximumNameLength) bytes.")
        }
        try NewFile.checkName(
            coverage, "--coverage", standardOutput: "the address, or what the command of --run prints")
        guard shellCommand?.isEmpty != true else { throw ValidationError("--run takes a shell command.") }
        guard shellCommand == nil || !once else {
            throw ValidationError("--run and --once both say when to end; give one of them.")
        }
        let options = try treatment(of: ImageSource("")).options
        guard digest == nil || !options.isWritable && options.overlay == nil else {
            throw ValidationError(
                "--digest is of a disk that is only read: leave out --writable, --overlay and --overlay-file.")
        }
        guard (64 << 10...1 << 30).contains(maxRequest.bytes) else {
            throw ValidationError("--max-request takes a size from 64K to 1G.")
        }
        guard maxConnections > 0 else { throw ValidationError("--max-connections takes a number above 0.") }
    }

    /// Is it taken down what clients read?
    var hasCoverage: Bool {
        once || shellCommand != nil || requireComplete || coverage != nil || digest != nil
    }

    /// What the command line says of an image.
    /// - Throws: `ValidationError` when options contradict each other.
    func treatment(of source: ImageSource) throws -> ImageTreatment {
        var treatment = ImageTreatment(source)
        try treatment.apply(image, from: nil)
        try treatment.check()
        return treatment
    }

    func run() async throws {
        let log = StandardErrorLog.make(verbosity: verbose)
        Process.raiseDescriptorLimit()
        // First the addresses, so that a wrong one is told before anybody types a passphrase. Clients come when the keys
        // are there: none of them waits for a key derivation.
        let termination = Termination()
        if let pidFile { try PidFile.makeWay(pidFile) }
        if let coverage { try NewFile.checkIsNew(coverage) }
        let plan = try listening.prepare(isEncrypted: encryption.isRequired)
        let (oneTimeKey, keyCleanUp) = try termination.begin(making: encryption.makeOneTimeKey) { $0?.remove() }
        defer { termination.end(keyCleanUp) }
        let tls = try encryption.policy(oneTimeKey, log)
        var builder = ExportBuilder(command: self, termination: termination, log: log)
        var display: DiskProgress?
        if progress != .none {
            builder.progress = { size in
                let new = DiskProgress("serving", size: size, progress)
                display = new
                return ServedProgress(new.copy)
            }
        }
        let (exports, commits) = try builder.exports()
        CommandSecrets.warnUnlessLocked(log)
        let (place, cleanUp) = try termination.begin(
            making: { try ListeningPlace(plan, privateDirectory: oneTimeKey?.directory) }, { $0.remove() })
        defer { termination.end(cleanUp) }
        let status = try await Serving(
            command: self, exports: exports, commits: commits, place: place, tls: tls,
            credentials: encryption.clientCredentials(tls, oneTimeKey), progress: display, log: log,
            termination: termination
        ).run()
        if status != 0 { throw ExitCode(status) }
    }
}

/// How the digest of a disk is made.
enum DigestKind: String, CaseIterable, ExpressibleByArgument {
    /// See `DiskDigest`.
    case sha256
}
