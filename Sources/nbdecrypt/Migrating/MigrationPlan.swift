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
    /// The image of the disk itself; nil when it cannot be opened.
    private(set) var image: PlannedImage?
    /// Those that are made beside it, in that order: of backing files, the bottom first, and of snapshots.
    private(set) var others: [PlannedImage] = []
    /// The new image.
    let new: String
    /// Of the new image.
    let format: String
    /// It was neither said nor does the name tell.
    private(set) var isFormatProposed = false
    /// What all new images take at most, in bytes.
    private(set) var totalSpace: UInt64?
    /// What there is in their directory, in bytes.
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
        case others, totalSpace, leftBehind, notes, obstacles, command
    }

    /// With what is known of ``image`` beside the rest.
    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(layers, forKey: .layers)
        try container.encodeIfPresent(image?.disk, forKey: .disk)
        try container.encodeIfPresent(image?.size, forKey: .size)
        try container.encodeIfPresent(image?.read, forKey: .read)
        try container.encodeIfPresent(image?.zeros, forKey: .zeros)
        try container.encodeIfPresent(image?.isExact, forKey: .isExact)
        try container.encode(new, forKey: .new)
        try container.encode(format, forKey: .format)
        try container.encode(isFormatProposed, forKey: .isFormatProposed)
        try container.encodeIfPresent(image?.space, forKey: .space)
        try container.encode(others, forKey: .others)
        try container.encodeIfPresent(totalSpace, forKey: .totalSpace)
        try container.encodeIfPresent(freeSpace, forKey: .freeSpace)
        try container.encode(secrets, forKey: .secrets)
        try container.encode(leftBehind, forKey: .leftBehind)
        try container.encode(notes, forKey: .notes)
        try container.encode(obstacles, forKey: .obstacles)
        try container.encode(command, forKey: .command)
    }

    /// - Parameters:
    ///   - options: of the old image, as `migrate` would have them.
    ///   - scope: which images are made of it.
    ///   - ring: holds secrets; nil: none are used, which what is encrypted needs to be looked into.
    ///   - arguments: what `migrate` is told besides the images and the format, as the shell takes it.
    init(
        _ options: OpeningOptions, _ scope: MigrationScope, to said: TargetFormat?, new: String?, arguments: String,
        ring: SecretRing?
    ) {
        // What is damaged is to be told of, and not to hide the rest.
        var options = options
        options.allowsDamage = true
        let warnings = Locked<[String]>([])
        let log = OpeningLog { event in
            if event.kind == .warning { warnings.withLock { $0.append(event.sentence.worded) } }
        }
        let secrets = ring ?? SecretRing(GivenSecrets([]), log: log)
        var obstacles: [String] = []
        var image: OpenImage?
        do throws(OpeningError) {
            image = try DiskOpener(options, ring: secrets, log: log, isSealed: ring == nil).image()
        } catch { obstacles.append(error.worded) }
        let chosen = image.flatMap { TargetFormat.chosen(said, fileName: new ?? "", old: $0.format) }
        let target = chosen ?? said ?? .qcow2LUKS
        isFormatProposed = chosen == nil
        format = target.rawValue
        let name = new ?? "new.\(target.fileExtension)"
        self.new = name
        command =
            "nbdecrypt migrate \(ShellText.fileArgument(options.source.name)) \(ShellText.fileArgument(name)) "
            + "--to \(target.rawValue)\(arguments)\(scope.arguments)"
        freeSpace = Process.freeSpace(in: Process.directory(of: name).string)
        var steps: MigrationSteps?
        do { steps = try image.map { try MigrationSteps(scope, $0, name, target) } } catch {
            obstacles.append(Self.words(error))
        }
        for path in steps?.paths ?? [name] {
            do throws(Failure) {
                if let image { try NewFile.check(path, against: image) } else { try NewFile.checkIsNew(path) }
            } catch { obstacles.append(error.description) }
        }
        do throws(Failure) { try ImageMaker.checkTool(target) } catch { obstacles.append(error.description) }
        self.obstacles = obstacles
        guard let image else { return }
        describe(image, target, scope)
        if let steps {
            options.selection.names = steps.selection
            let opener = DiskOpener(options, ring: secrets, log: log, isSealed: ring == nil)
            do { take(try steps.steps(opener.disks(of: image)), target) } catch {
                self.obstacles.append(Self.words(error))
            }
            if steps.stateCount > 0 {
                leftBehind.append("the state of the machine in \(CountText.of(steps.stateCount, "internal snapshot"))")
            }
        }
        if ring == nil, layers.contains(where: { $0.encryption != nil && $0.format != ImageFormat.luks.rawValue }) {
            notes.append(
                "without the passphrase nobody sees what is on the disk: a LUKS container on it would be decrypted, too"
            )
        }
        notes += warnings.withLock { $0 }.filter { warning in !self.obstacles.contains { $0.contains(warning) } }
    }

    private static func words(_ error: any Error) -> String {
        (error as? OpeningError)?.worded ?? (error as? Failure)?.description ?? "\(error)"
    }

    /// What the files say.
    private mutating func describe(_ image: OpenImage, _ target: TargetFormat, _ scope: MigrationScope) {
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
        leave(facts, target, scope)
    }

    /// So many names are told at most.
    private static let shownNames = 10

    private mutating func leave(_ facts: [LayerFacts], _ target: TargetFormat, _ scope: MigrationScope) {
        func names(_ all: [String]) -> String {
            all.prefix(Self.shownNames).joined(separator: ", ") + (all.count > Self.shownNames ? ", …" : "")
        }
        let snapshots = facts.first?.snapshots ?? []
        if scope.hasSnapshots, snapshots.isEmpty { notes.append("the old image has no internal snapshots") }
        if !scope.hasSnapshots, !snapshots.isEmpty {
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
        if scope.chain == .keep, below.isEmpty { notes.append("the old image has no backing file") }
        if scope.chain == .flatten, !below.isEmpty {
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

    /// What the disks say; that of the image itself comes last.
    private mutating func take(_ steps: [MigrationSteps.Step], _ target: TargetFormat) {
        guard let last = steps.last else { return }
        let images = steps.map { PlannedImage($0, target) }
        (image, others) = (images.last, images.dropLast())
        if let container = last.disk.containerName { secrets.insert("the passphrase of \(container)", at: 0) }
        let space = images.map(\.space).saturatingSum
        totalSpace = space
        if let freeSpace, freeSpace < space {
            obstacles.append(
                "\(Process.directory(of: new)) has \(ByteText.short(freeSpace)) free, and \(images.count == 1 ? "the new image" : "the \(images.count) new images") may take "
                    + "\(ByteText.short(space)); make room, or name a file elsewhere with --new")
        }
        for image in images {
            do throws(Failure) { try ImageMaker.check(target, size: image.size, image.new) } catch {
                obstacles.append(error.description)
            }
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
        if let image { lines.append(("disk", image.disk)) }
        lines.append(("into", "\(new): \(format)\(isFormatProposed ? ", a proposal; --to says another" : "")"))
        if let image { lines.append(("to read", image.amount)) }
        for other in others {
            lines.append(("beside it", "\(other.new): \(other.disk)"))
            lines.append(("to read", other.amount))
            lines.append(("space", "at most \(other.space) bytes\(ByteText.rounded(other.space))"))
        }
        if let space = totalSpace {
            let free = freeSpace.map { "; \(ByteText.short($0)) are free there" } ?? ""
            let all = others.isEmpty ? "" : " for all \(others.count + 1) images"
            lines.append(("space", "at most \(space) bytes\(ByteText.rounded(space))\(all)\(free)"))
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
