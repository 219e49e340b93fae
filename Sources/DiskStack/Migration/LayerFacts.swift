// SPDX-License-Identifier: Apache-2.0

package import BlockIO
import Crypto
package import ImageFormats

/// What somebody wants to know of one file of an image before its disk is copied. No secret is needed.
package struct LayerFacts {
    /// As the user knows it, e.g. the path.
    package let name: String
    package let format: ImageFormat
    /// E.g. "AES-128" or "LUKS1, 2 keyslots"; nil when it is not encrypted.
    package private(set) var encryption: String?
    /// About how long one passphrase takes to be tried, in nanoseconds by estimate; nil when that is no work.
    package private(set) var derivationTime: UInt64?
    /// Tokens that open keyslots, by type in quotes.
    package private(set) var tokens: [String] = []
    /// Internal snapshots, by name in quotes, or else id.
    package private(set) var snapshots: [String] = []
    /// By name in quotes.
    package private(set) var bitmaps: [String] = []
    package private(set) var hasDataFile = false
    /// Clusters that are stored in compressed form.
    package private(set) var compressedCount: UInt64 = 0
    /// What is wrong with its tables, or why they cannot be read; nil when nothing was found.
    package private(set) var damage: Sentence?

    init(_ link: ImageChain.Link) {
        name = link.name
        format = link.kind.format
        let file = link.source.device
        switch link.kind {
        case .raw: break
        case .luks: take(file, dataSize: file.size, isDetached: false)
        case .qcow(let header):
            if header.encryption != .none { encryption = "AES-128" }
            take { () throws(BlockError) in try MappedCensus(file: file, header: header) }
        case .qcow2(let header):
            switch header.encryption {
            case .none: break
            case .legacyAES: encryption = "AES-128"
            case .luks: take(header.luksWindow(in: file), dataSize: nil, isDetached: true)
            }
            hasDataFile = link.dataFile != nil
            snapshots =
                (try? Qcow2Snapshot.all(of: file, header))?.map { snapshot in
                    snapshot.name.isEmpty ? "id \(ShownText.quoted(snapshot.id))" : ShownText.quoted(snapshot.name)
                } ?? []
            bitmaps =
                (try? Qcow2Bitmap.all(of: file, header, cache: ImageCache()))?.map { ShownText.quoted($0.name) } ?? []
            take { () throws(BlockError) in try MappedCensus(file: file, header: header) }
        }
    }

    /// Of a header in a file of its own.
    init(_ header: DetachedHeader) {
        name = header.name
        format = .luks
        take(header.source.device, dataSize: nil, isDetached: true)
    }

    private mutating func take(_ census: () throws(BlockError) -> MappedCensus) {
        do throws(BlockError) {
            let census = try census()
            compressedCount = census.compressedCount
            damage = census.firstFault.map { Sentence($0) }
        } catch { damage = Sentence(error.description) }
    }

    private mutating func take(_ device: any BlockDevice, dataSize: UInt64?, isDetached: Bool) {
        do throws(FormatError) {
            let volume = try LUKSOpener.header(device, dataSize: dataSize, isDetached: isDetached)
            encryption = "LUKS\(volume.version), \(CountText.of(volume.keyslots.count, "keyslot"))"
            derivationTime = volume.keyslots.map { $0.derivation.cost(count: $0.encryptionKeySize) }.saturatingSum
            tokens = volume.tokens.map { ShownText.quoted($0.type) }
        } catch {
            encryption = "LUKS"
            damage = error.sentence
        }
    }
}

extension OpenImage {
    /// Of each file, the top first; a detached header comes last.
    package var facts: [LayerFacts] {
        chain.links.map { LayerFacts($0) } + [luksHeader].compactMap { $0 }.map { LayerFacts($0) }
    }

    /// Why not all files below were opened; nil when they were.
    package var breakage: FormatError? { chain.breakage }
}
