// SPDX-License-Identifier: Apache-2.0

public import BlockIO
public import Crypto
public import ImageFormats
public import SystemPackage

/// Which image to open, and how.
public struct OpeningOptions {
    /// Where the image is.
    public var source: ImageSource
    /// What sources far away are opened by.
    public var sources = SourceOpener()
    /// Nil: find out; raw is never guessed.
    public var format: ImageFormat?
    /// Where a detached LUKS header is; nil: the image holds its own.
    public var luksHeader: ImageSource?
    /// How LUKS containers are unlocked.
    public var unlock = LUKSUnlock.Options()
    /// Refuse a passphrase of an AES image when what it decrypts looks like noise.
    public var checksPassphrase = true
    /// Open what is left of an image that has lost a part.
    public var allowsDamage = false
    /// Read an image that another program may be writing to.
    public var sharesWithWriters = false
    /// The disk may be changed; the default one of those that are opened.
    public var isWritable = false
    /// What is given up on a disk in a LUKS container is given up in the file, which shows what is in use.
    public var allowsDiscards = false
    /// Reference counts of an image, or of the file of an overlay, that was not closed properly are rebuilt before it is written
    /// to.
    public var repairs = false
    /// Even where nothing keeps other programs from writing to it.
    public var allowsUnlocked = false
    /// The disk may be changed, and the image stays as it is. Nil: no overlay.
    public var overlay: Overlay?
    /// Which files that the image names are opened.
    public var references = FileReferences(.sameDirectory)
    /// Of backing files whose format no image says.
    public var formats = BackingFormats()
    /// Which disks are wanted.
    public var selection = DiskSelection()
    /// Names of dirty bitmaps that must be offered, and no others; empty: all that can be.
    public var bitmaps: [String] = []
    /// Of partition tables, in bytes; nil: found out.
    public var sectorSize: Int?

    /// Where the changes are of a disk whose image stays as it is.
    public enum Overlay: Equatable, Sendable {
        /// In a scratch file in this directory, as long as the disks exist.
        case scratch(in: FilePath)
        /// In this file, a qcow2 image with LUKS inside, to stay.
        case file(FilePath)
    }

    /// The defaults: the whole disk, read-only, decrypted.
    public init(_ source: ImageSource) { self.source = source }

    /// The image, for people.
    package var name: String { source.name }

    /// What is wanted of files and other sources that are only read.
    var reading: SourceAccess { SourceAccess(excludesWriters: !sharesWithWriters) }

    /// What is wanted of the image itself.
    var access: SourceAccess {
        SourceAccess(
            excludesWriters: !sharesWithWriters, isWritable: isWritable, allowsUnlocked: allowsUnlocked)
    }

    /// What lets the disk be changed; nil: nothing does.
    var writing: Remedy? {
        switch overlay {
        case .scratch?: .overlay
        case .file?: .overlayFile
        case nil: isWritable ? .writable : nil
        }
    }

    var wantsSnapshots: Bool { selection.wantsSnapshots }

    /// How files that the image names are opened.
    var chain: ImageChain.Options {
        ImageChain.Options(
            references: references, formats: formats, sources: sources, access: reading, topAccess: access)
    }
}
