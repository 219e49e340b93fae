// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import DiskStack
import SystemPackage

/// How one image is served.
struct ImageTreatment {
    /// How it is opened.
    var options: OpeningOptions
    /// Where its secrets are.
    private(set) var secrets = SecretPlaces()
    /// Examine it before.
    private(set) var isAudited = false
    /// Clients change an overlay; and where its scratch file is, if somebody says so.
    private var hasOverlay = false
    private var overlayDirectory: FilePath?
    /// The file that has the changes of clients.
    private var overlayFile: FilePath?
    /// Look for zeros in what is stored.
    private(set) var detectsZeroes = false

    init(_ source: ImageSource) { options = OpeningOptions(source) }

    /// Takes over what is said, and leaves what is not.
    ///
    /// - Parameter directory: in which relative paths start; nil: the working directory.
    /// - Throws: `ValidationError`.
    mutating func apply(_ said: ServedImageOptions, from directory: FilePath?) throws {
        if let format = said.said.format { options.format = format }
        said.unlock.apply(to: &options.unlock)
        if let header = said.unlock.header { options.luksHeader = header.source(from: directory) }
        try said.references.apply(to: &options, from: directory)
        said.exports.apply(to: &options)
        if said.noPassphraseCheck { options.checksPassphrase = false }
        if said.allowDamaged { options.allowsDamage = true }
        if said.forceShare { options.sharesWithWriters = true }
        if said.writable { options.isWritable = true }
        if said.allowDiscards { options.allowsDiscards = true }
        if said.repair { options.repairs = true }
        if said.allowUnlocked { options.allowsUnlocked = true }
        if said.overlay { hasOverlay = true }
        if let path = said.overlayDir?.path(from: directory) { overlayDirectory = FilePath(path) }
        if let path = said.overlayFile?.path(from: directory) { overlayFile = FilePath(path) }
        options.overlay =
            overlayFile.map { .file($0) } ?? (hasOverlay ? .scratch(in: overlayDirectory ?? "/var/tmp") : nil)
        if said.audit { isAudited = true }
        if said.detectZeroes { detectsZeroes = true }
        // All of them or none: secrets are tried in the order in which they are said.
        let places = said.secret.places(from: directory)
        if !places.isEmpty { secrets = places }
    }

    /// - Throws: `ValidationError` when options contradict each other.
    func check() throws {
        try options.isWritable ? checkWriting() : checkReading()
        try checkOverlay()
    }

    private func checkWriting() throws {
        guard !options.sharesWithWriters else {
            throw ValidationError(
                "--writable and --force-share exclude each other: a writer needs the image for itself.")
        }
        guard !options.allowsDamage else {
            throw ValidationError("--writable and --allow-damaged exclude each other: more would be lost.")
        }
        guard !options.selection.startsWithVolume else {
            throw ValidationError("--writable is for the disk or a partition of it: logical volumes are only read.")
        }
        guard options.selection.snapshot == nil else {
            throw ValidationError("--writable is for the disk as it is now: snapshots are only read.")
        }
        guard options.overlay == nil else {
            throw ValidationError(
                "--writable and --overlay\(hasOverlay ? "" : "-file") exclude each other: with an overlay the image is only read."
            )
        }
    }

    private func checkReading() throws {
        guard !options.allowsDiscards else { throw ValidationError("--allow-discards is for --writable.") }
        guard !options.repairs || overlayFile != nil else {
            throw ValidationError(
                "--repair is for --writable and --overlay-file: to read, an image needs no reference counts.")
        }
        guard !options.allowsUnlocked || overlayFile != nil else {
            throw ValidationError(
                "--allow-unlocked is for --writable and --overlay-file; to read, --force-share takes no locks.")
        }
    }

    private func checkOverlay() throws {
        guard hasOverlay || overlayDirectory == nil else {
            throw ValidationError("--overlay-dir says where the scratch file of --overlay is; give both.")
        }
        guard options.overlay == nil || options.selection.snapshot == nil && options.bitmaps.isEmpty else {
            throw ValidationError(
                "An overlay is for the disk as it is now: snapshots are only read, and bitmaps do not tell of its changes."
            )
        }
        try checkOverlayFile()
    }

    private func checkOverlayFile() throws {
        guard let overlayFile else {
            guard !secrets.pinned.contains(where: { $0.use == .passphraseOfOverlay }) else {
                throw ValidationError(
                    "--secret overlay= is for --overlay-file: there is no other overlay with a secret.")
            }
            return
        }
        guard !hasOverlay else {
            throw ValidationError(
                "--overlay and --overlay-file exclude each other: changes are lost at the end, or stay in the file.")
        }
        guard !overlayFile.isEmpty else { throw ValidationError("The name of --overlay-file is empty.") }
        guard case .file = ImageSource(overlayFile.string) else {
            throw ValidationError("--overlay-file takes the path of a file of this machine.")
        }
        guard !options.sharesWithWriters else {
            throw ValidationError(
                "--overlay-file and --force-share exclude each other: the changes fit an image that stays as it is.")
        }
    }
}
