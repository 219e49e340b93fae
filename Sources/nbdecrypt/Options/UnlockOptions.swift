// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Crypto

/// The options that say how LUKS containers are opened.
struct UnlockOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Read the LUKS header from a file of its own; the image then holds the data alone.", valueName: "path"))
    var header: PathArgument?

    @Option(name: .long, help: ArgumentHelp("Try this LUKS keyslot only.", valueName: "n"))
    var keySlot: Int?

    @Flag(
        name: .long,
        help:
            "Open LUKS containers whose cipher, or that of a keyslot, is \"null\": their data or key is not encrypted.")
    var allowNullCipher = false

    @Flag(name: .long, help: "Serve segments of LUKS2 containers of type \"linear\": their data is not encrypted.")
    var allowLinearSegments = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The most iterations of PBKDF2 that a LUKS header may ask for (default: 268435456).", valueName: "n"))
    var maxKdfIterations: UInt32?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The most memory that a LUKS header may ask argon2 to use, in bytes or with K, M, G, T (default: 4G).",
            valueName: "size"))
    var maxKdfMemory: ByteCount?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The most memory that argon2 may go through, its memory times its time cost (default: 256G).",
            valueName: "size"))
    var maxKdfWork: ByteCount?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The most seconds that trying all secrets on all keyslots of a LUKS container may take, by estimate (default: 900).",
            valueName: "n"))
    var maxKdfSeconds: UInt64?

    func validate() throws {
        guard keySlot.map({ (0..<32).contains($0) }) ?? true else {
            throw ValidationError("--key-slot takes a number from 0 to 31.")
        }
        guard header?.isEmpty != true else { throw ValidationError("--header takes the path of a LUKS header.") }
    }

    /// Says what is given of it, but for the file with the header.
    func apply(to options: inout LUKSUnlock.Options) {
        if let keySlot { options.keyslot = keySlot }
        if allowNullCipher { options.plaintext.insert(.nullCipher) }
        if allowLinearSegments { options.plaintext.insert(.linearSegments) }
        if let maxKdfIterations { options.limits.iterations = maxKdfIterations }
        if let maxKdfMemory { options.limits.memory = maxKdfMemory.bytes }
        if let maxKdfSeconds { options.limits.seconds = maxKdfSeconds }
        if let maxKdfWork { options.limits.argonWork = maxKdfWork.bytes }
    }
}

/// A size as people write it: 4096, 512K, 64M, 4G.
struct ByteCount: ExpressibleByArgument {
    let bytes: UInt64

    init(bytes: UInt64) { self.bytes = bytes }

    /// With the largest unit that fits.
    var defaultValueDescription: String {
        let units: [(UInt64, String)] = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")]
        let unit = units.first { bytes > 0 && bytes % $0.0 == 0 }
        return unit.map { "\(bytes / $0.0)\($0.1)" } ?? "\(bytes)"
    }

    init?(argument: String) {
        let factors: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let factor = argument.last.flatMap { factors[Character($0.uppercased())] }
        guard let number = UInt64(factor == nil ? argument : String(argument.dropLast())) else { return nil }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: factor ?? 1)
        guard !overflow else { return nil }
        self.bytes = bytes
    }
}
