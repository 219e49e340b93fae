// SPDX-License-Identifier: Apache-2.0

/// Something that whoever opens or serves an image can set or do, and that a ``Sentence`` advises or refers to.
///
/// Libraries do not know how it is said: a program words each case with its own options. Here a case has the name of the
/// property that does it, or of what it is about.
public enum Remedy: Hashable, Sendable {
    // MARK: How a file is opened

    /// Changes are allowed.
    case writable
    /// Reference counts of an image that was not closed properly are rebuilt.
    case repair
    /// Also where no locks keep other programs away.
    case allowUnlocked
    /// No locks are taken; other programs may write.
    case shareWithWriters
    /// Changes go to an overlay.
    case overlay
    /// Where the scratch files of overlays are.
    case overlayDirectory
    /// Changes go to a file, and stay there.
    case overlayFile
    /// The secret of that file.
    case overlaySecret
    /// The policy for files that an image names.
    case references(policy: String)
    /// A file, by its absolute path, is opened when an image names it.
    case allowReference(path: String)

    // MARK: What a file is

    /// The format of an image; nil: without saying which.
    case format(String?)
    /// The format of a backing file; nil: of any layer, or without saying which.
    case backingFormat(layer: Int?, format: String?)
    /// A file of its own holds the LUKS header; nil: without saying which.
    case luksHeader(path: String?)
    /// An image that has lost a part is opened.
    case allowDamage
    /// What is known of an image is shown.
    case describeImage
    /// All tables of an image are examined.
    case auditImage

    // MARK: Secrets

    /// The keyslot that is tried; nil: without saying which.
    case keyslot(Int?)
    /// All bytes of a file are a passphrase.
    case keyFile
    /// The bytes of a file are the key of an AES image.
    case aesKeyFile
    /// The bytes of a file are the volume key.
    case volumeKeyFile
    /// Somebody may be asked for a passphrase that is only checked.
    case checkPassphrase
    /// A passphrase is not checked against what it decrypts.
    case skipPassphraseCheck
    /// The null cipher is accepted.
    case allowNullCipher
    /// Segments of type linear are accepted.
    case allowLinearSegments
    /// More iterations of PBKDF2 are accepted.
    case derivationIterations
    /// More memory for argon2 is accepted.
    case derivationMemory
    /// More memory times passes of argon2 are accepted.
    case derivationWork
    /// More time for all derivations is accepted.
    case derivationSeconds

    // MARK: Which part of a disk

    /// Which disks are exported; nil: without saying which.
    case exports(String?)
    /// Which dirty bitmaps are offered.
    case bitmap
    /// A partition; nil: without saying which.
    case partition(Int?)
    /// A logical volume, as in "vg0/root".
    case logicalVolume(String)
    /// Where a part begins, in bytes; nil: without saying where.
    case offset(UInt64?)
    /// How long a part is, in bytes; nil: without saying.
    case size(UInt64?)
    /// The sector size of partition tables, in bytes; nil: without saying.
    case sectorSize(Int?)

    // MARK: A server

    /// Where the Unix socket is.
    case socketPath
    /// The address that is listened on.
    case address
    /// The TCP port.
    case tcpPort
    /// The port of vsock.
    case vsockPort
    /// The longest request that is served.
    case requestBytes
    /// Where certificates for TLS are.
    case certificates
    /// Where pre-shared keys for TLS are.
    case preSharedKeys
    /// Clients must have certificates.
    case verifyPeers
    /// Whose certificates are accepted, by the name of the subject; nil: without saying whose.
    case allowName(String?)
}

extension Remedy: CustomStringConvertible {
    /// As programs see it, e.g. "sharesWithWriters" or "partition 2".
    public var description: String {
        switch self {
        case .writable: "isWritable"
        case .repair: "repairs"
        case .allowUnlocked: "allowsUnlocked"
        case .shareWithWriters: "sharesWithWriters"
        case .overlay: "an overlay"
        case .overlayDirectory: "overlay.scratch"
        case .overlayFile: "overlay.file"
        case .overlaySecret: "passphraseOfOverlay"
        case .references(let policy): "references \(policy)"
        case .allowReference(let path): "references to \(path)"
        case .format(let format): Self.name("format", format)
        case .backingFormat(let layer, let format):
            Self.name(layer.map { "the format of layer \($0)" } ?? "backing format", format)
        case .luksHeader(let path): Self.name("luksHeader", path)
        case .allowDamage: "allowsDamage"
        case .describeImage: "what the header says"
        case .auditImage: "an audit"
        case .keyslot(let number): Self.name("keyslot", number)
        case .keyFile: "the bytes of a passphrase"
        case .aesKeyFile: "the key of an AES image"
        case .volumeKeyFile: "the volume key"
        case .checkPassphrase: "mayAsk"
        case .skipPassphraseCheck: "checksPassphrase"
        case .allowNullCipher: "nullCipher"
        case .allowLinearSegments: "linearSegments"
        case .derivationIterations: "limits.iterations"
        case .derivationMemory: "limits.memory"
        case .derivationWork: "limits.argonWork"
        case .derivationSeconds: "limits.seconds"
        case .exports(let names): Self.name("selection.names", names)
        case .bitmap: "bitmaps"
        case .partition(let number): Self.name("partition", number)
        case .logicalVolume(let name): "logicalVolume \(name)"
        case .offset(let offset): Self.name("offset", offset)
        case .size(let size): Self.name("size", size)
        case .sectorSize(let size): Self.name("sectorSize", size)
        case .socketPath: "another path"
        case .address: "another address"
        case .tcpPort: "another TCP port"
        case .vsockPort: "another port of vsock"
        case .requestBytes: "limits.requestBytes"
        case .certificates: "certificates"
        case .preSharedKeys: "preSharedKeys"
        case .verifyPeers: "verifiesPeer"
        case .allowName(let name): Self.name("allowedNames", name)
        }
    }

    private static func name(_ name: String, _ value: (some CustomStringConvertible)?) -> String {
        value.map { "\(name) \($0)" } ?? name
    }
}
