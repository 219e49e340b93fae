// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import ImageFormats
import SystemPackage

/// What `nbdecrypt migrate` would do with an image, and what that takes. Nothing is made, and no data is read.
struct MigrationPlan: Encodable {
    struct Layer: Encodable {
        let name: String
        let format: String
        /// E.g. "AES-128"; nil when it is not encrypted.
        let encryption: String?
        /// What it takes to try one passphrase on all keyslots, by estimate.
        let derivationSeconds: Double?
    }

    /// The files of the old image, the top first.
    private(set) var layers: [Layer] = []
    /// What would be copied, for people; nil when it cannot be opened.
    private(set) var disk: String?
    /// Of the disk, in bytes.
    private(set) var size: UInt64?
    /// What is read of it, in bytes.
    private(set) var read: UInt64?
    /// Bytes that are known to be zeros without being read.
    private(set) var zeros: UInt64?
    /// False when the disk has too many runs to count them all: the numbers are then upper bounds.
    private(set) var isExact: Bool?
    /// The new image.
    let new: String
    /// Of the new image.
    let format: String
    /// It was neither said nor does the name tell.
    private(set) var isFormatProposed = false
    /// What the new image takes at most, in bytes.
    private(set) var space: UInt64?
    /// What there is in its directory, in bytes.
    private(set) var freeSpace: UInt64?
    /// Secrets that are asked for, unless options say where they are.
    private(set) var secrets: [String] = []
    /// What the new image will not have.
    private(set) var leftBehind: [String] = []
    /// What else is good to know.
    private(set) var notes: [String] = []
    /// Why it cannot be done as it is, and what to do.
    private(set) var obstacles: [String] = []
    let command: String

    /// Can it be done, as far as can be told?
    var isPossible: Bool { obstacles.isEmpty }

    private enum CodingKeys: String, CodingKey {
        case layers, disk, size, read, zeros, isExact, new, format, isFormatProposed, space, freeSpace, secrets
        case leftBehind, notes, obstacles, command
    }

    /// - Parameters:
    ///   - options: of the old image, as `migrate` would have them.
    ///   - ring: holds secrets; nil: none are used, which what is encrypted needs to be looked into.
    ///   - arguments: what `migrate` is told besides the images and the format, as the shell takes it.
    init(
        _ options: OpeningOptions, to said: TargetFormat?, new: String?, arguments: String, ring: SecretRing?
    ) {
        // What is damaged is to be told of, and not to hide the rest.
        var options = options
        options.allowsDamage = true
        let warnings = Locked<[String]>([])
        let log = OpeningLog { event in
            if event.kind == .warning { warnings.withLock { $0.append(event.sentence.worded) } }
        }
        let opener = DiskOpener(
            options, ring: ring ?? SecretRing(GivenSecrets([]), log: log), log: log, isSealed: ring == nil)
        var obstacles: [String] = []
        var image: OpenImage?
        do throws(OpeningError) { image = try opener.image() } catch { obstacles.append(error.worded) }
        let chosen = image.flatMap { TargetFormat.chosen(said, fileName: new ?? "", old: $0.format) }
        let target = chosen ?? said ?? .qcow2LUKS
        isFormatProposed = chosen == nil
        format = target.rawValue
        let name = new ?? "new.\(target.fileExtension)"
        self.new = name
        command =
            "nbdecrypt migrate \(ShellText.fileArgument(options.source.name)) \(ShellText.fileArgument(name)) "
            + "--to \(target.rawValue)\(arguments)"
        freeSpace = Process.freeSpace(in: Process.directory(of: name).string)
        do throws(Failure) {
            if let image { try NewFile.check(name, against: image) } else { try NewFile.checkIsNew(name) }
        } catch { obstacles.append(error.description) }
        do throws(Failure) { try ImageMaker.checkTool(target) } catch { obstacles.append(error.description) }
        self.obstacles = obstacles
        guard let image else { return }
        describe(image, target)
        do throws(OpeningError) {
            take(try opener.disks(of: image)[0], target, name)
        } catch { self.obstacles.append(error.worded) }
        if ring == nil, layers.contains(where: { $0.encryption != nil && $0.format != ImageFormat.luks.rawValue }) {
            notes.append(
                "without the passphrase nobody sees what is on the disk: a LUKS container on it would be decrypted, too"
            )
        }
        notes += warnings.withLock { $0 }.filter { warning in !self.obstacles.contains { $0.contains(warning) } }
    }

    /// What the files say.
    private mutating func describe(_ image: OpenImage, _ target: TargetFormat) {
        let facts = image.facts
        layers = facts.map {
            Layer(
                name: $0.name, format: $0.format.rawValue, encryption: $0.encryption,
                derivationSeconds: $0.derivationTime.map { Double($0) / 1e9 })
        }
        for layer in facts {
            if let damage = layer.damage {
                obstacles.append(
                    "\(layer.name): \(damage.worded); nbdecrypt audit tells more, and --allow-damaged copies what can be read"
                )
            }
            if layer.encryption != nil { secrets.append("the passphrase of \(layer.name)") }
        }
        if target.isEncrypted {
            secrets.append("a passphrase for the new image")
        } else if facts.contains(where: { $0.encryption != nil }) {
            notes.append("the new image is not encrypted: whoever has it can read the disk")
        }
        leave(facts, target)
    }

    /// So many names are told at most.
    private static let shownNames = 10

    private mutating func leave(_ facts: [LayerFacts], _ target: TargetFormat) {
        func names(_ all: [String]) -> String {
            all.prefix(Self.shownNames).joined(separator: ", ") + (all.count > Self.shownNames ? ", …" : "")
        }
        if let snapshots = facts.first?.snapshots, !snapshots.isEmpty {
            leftBehind.append(
                "\(CountText.of(snapshots.count, "internal snapshot")): \(names(snapshots)); --snapshots copies them as well"
            )
        }
        if let bitmaps = facts.first?.bitmaps, !bitmaps.isEmpty {
            leftBehind.append(
                "\(CountText.of(bitmaps.count, "dirty bitmap")): \(names(bitmaps)); the first backup of the new image is a full one"
            )
        }
        let below = facts.dropFirst().filter { $0.format != .luks }.map(\.name)
        if !below.isEmpty {
            leftBehind.append(
                "the backing files: the new image stands alone, and holds what is in \(names(below)); --chain keep makes each anew"
            )
        }
        if facts.contains(where: \.hasDataFile) { leftBehind.append("the data file: all is in the new image") }
        let compressed = facts.reduce(0) { $0 + $1.compressedCount }
        if compressed > 0 {
            leftBehind.append("compression: \(compressed) compressed clusters are stored unpacked")
        }
        let tokens = facts.flatMap(\.tokens)
        if !tokens.isEmpty { leftBehind.append("\(CountText.of(tokens.count, "LUKS token")): \(names(tokens))") }
        if facts.contains(where: { $0.encryption?.hasPrefix("LUKS") ?? false }) {
            leftBehind.append(
                "the LUKS keyslots\(target.isEncrypted ? ": the new image opens with its one passphrase alone" : "")")
        }
    }

    /// What the disk says.
    private mutating func take(_ disk: OpenDisk, _ target: TargetFormat, _ name: String) {
        let estimate = CopyEstimate(of: disk.device, unit: UInt64(target.allocationUnit))
        self.disk = disk.description
        if let container = disk.containerName { secrets.insert("the passphrase of \(container)", at: 0) }
        size = estimate.size
        zeros = estimate.zeros
        read = estimate.read
        isExact = estimate.isExact
        let space = TargetSpace.most(target, estimate)
        self.space = space
        if let freeSpace, freeSpace < space {
            obstacles.append(
                "\(Process.directory(of: name)) has \(ByteText.short(freeSpace)) free, and the new image may take "
                    + "\(ByteText.short(space)); make room, or name a file elsewhere with --new")
        }
        do throws(Failure) { try ImageMaker.check(target, size: estimate.size, name) } catch {
            obstacles.append(error.description)
        }
    }
}

extension MigrationPlan {
    /// Names and values for people.
    var lines: [(String, String)] {
        var lines: [(String, String)] = []
        for layer in layers {
            let time = layer.derivationSeconds.map { ", about \(Self.seconds($0)) to try a passphrase" } ?? ""
            lines.append(("copy", "\(layer.name): \(layer.format), \(layer.encryption ?? "not encrypted")\(time)"))
        }
        if let disk { lines.append(("disk", disk)) }
        lines.append(("into", "\(new): \(format)\(isFormatProposed ? ", a proposal; --to says another" : "")"))
        if let size, let read, let zeros {
            let least = isExact ?? true ? "" : "at most "
            lines.append(
                (
                    "to read",
                    "\(least)\(read) of \(size) bytes\(ByteText.rounded(read)); \(ByteText.short(zeros)) are known to be zeros"
                ))
        }
        if let space {
            let free = freeSpace.map { "; \(ByteText.short($0)) are free there" } ?? ""
            lines.append(("space", "at most \(space) bytes\(ByteText.rounded(space))\(free)"))
        }
        lines += secrets.map { ("asks for", $0) } + leftBehind.map { ("not copied", $0) } + notes.map { ("note", $0) }
        lines += obstacles.map { ("in the way", $0) }
        return lines
    }

    private static func seconds(_ seconds: Double) -> String {
        seconds < 1 ? "\(Int((seconds * 1000).rounded())) ms" : "\(Int(min(seconds, 1e9).rounded())) s"
    }

    /// For the end of a report.
    var advice: [String] {
        [isPossible ? "To copy it, type:" : "When nothing is in the way any more, type:", "  \(command)"]
    }
}
