// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// What `serve` can be told of an image: on the command line for all of them, in the file of `--config` for one.
///
/// An option that is declared here, or in a group that is named here, is a key of that file.
struct ServedImageOptions: ParsableArguments {
    @OptionGroup var said: FormatOptions
    @OptionGroup(title: "Passphrase") var secret: SecretOptions
    @OptionGroup(title: "LUKS") var unlock: UnlockOptions
    @OptionGroup(title: "What to serve of an image") var exports: ExportOptions
    @OptionGroup(title: "Files that an image names") var references: ReferenceOptions

    @Flag(name: .long, help: "Serve even if the passphrase of an AES image does not seem to fit.")
    var noPassphraseCheck = false

    @Flag(
        name: .long,
        help:
            "Read all metadata of the image first, as the audit command does, and refuse to serve one that is damaged.")
    var audit = false

    @Flag(name: .long, help: "Serve what is left of an image that has lost a part.")
    var allowDamaged = false

    @Flag(name: .long, help: "Serve even if another program writes to the image, and do not keep others from it.")
    var forceShare = false

    @Flag(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Let clients change the image, through its default export; not for qcow version 1 and logical volumes."))
    var writable = false

    @Flag(
        name: .long,
        help:
            "With --writable: give up space in the file for what clients trim in a LUKS container. Whoever sees the file then sees what is in use."
    )
    var allowDiscards = false

    @Flag(
        name: .long,
        help:
            "With --writable or --overlay-file: rebuild the reference counts of a qcow2 image that was not closed properly, and say what was done."
    )
    var repair = false

    @Flag(
        name: .long,
        help:
            "With --writable or --overlay-file: even where the file system knows no locks, so that nothing keeps out a second writer."
    )
    var allowUnlocked = false

    @Flag(
        name: .long,
        help: """
            Let clients change the disk, and leave the image as it is: changes go to an encrypted scratch file and are lost \
            at the end.
            """)
    var overlay = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "With --overlay: the directory of the scratch file, instead of /var/tmp.", valueName: "path"))
    var overlayDir: PathArgument?

    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            Let clients change the disk, and leave the image as it is: changes stay in this file, a qcow2 image with LUKS \
            inside. If it is not there, the command that makes one is said.
            """, valueName: "path"))
    var overlayFile: PathArgument?

    @Flag(
        name: .long,
        help: "Look for zeros in what is stored, so that copies stay small: block status then reads the disk.")
    var detectZeroes = false

    /// Is one of the options given that make sense for one image only?
    var isForOneImage: Bool { exports.isForOneImage || unlock.header != nil || overlayFile != nil }
}
