// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import FoundationEssentials
import ImageFormats
import SystemPackage

/// A JSON file that says which images to serve and how: `serve --config`.
struct ServeConfiguration: Decodable {
    /// One image; what is not said is as the command line says it.
    struct Image: Decodable {
        /// Relative paths, here and below, start in the directory of the file.
        var path: String
        /// Of the export; without it the name of the file.
        let name: String?
        let format: String?
        var header: String?
        var passphraseFile: String?
        var keyFile: String?
        let exports: [String]?
        let partition: Int?
        let snapshot: String?
        let offset: UInt64?
        let size: UInt64?
        let sectorSize: Int?
        let logicalVolume: String?
        let references: String?
        var allowReferences: [String]?
        /// As the values of `--backing-format`.
        let backingFormat: [String]?

        enum CodingKeys: String, CodingKey, CaseIterable {
            case path, name, format, header, exports, partition, snapshot, offset, size, references
            case sectorSize = "sector-size"
            case logicalVolume = "logical-volume"
            case passphraseFile = "passphrase-file"
            case keyFile = "key-file"
            case allowReferences = "allow-references"
            case backingFormat = "backing-format"
        }
    }

    private(set) var images: [Image]

    /// Larger files are not read.
    private static let maximumSize = 1 << 20

    /// Reads the file.
    /// - Throws: ``Failure`` with status 64 for anything that is not understood.
    init(path: String) throws {
        let bytes: [UInt8]
        do {
            let file = try FileDevice(path: FilePath(path), excludesWriters: false)
            guard file.size <= Self.maximumSize else {
                throw Failure(.usage, "\(path): more than \(Self.maximumSize) bytes; is it the right file?")
            }
            bytes = try file.read(count: Int(file.size), at: 0)
        } catch let error as FormatError {
            throw Failure(error, image: path)
        }
        do { self = try JSONDecoder().decode(ServeConfiguration.self, from: Data(bytes)) } catch {
            throw Failure(.usage, "\(path): \(Self.explanation(error))")
        }
        guard !images.isEmpty else { throw Failure(.usage, "\(path): images: there is none") }
        let directory = FilePath(Process.absolutePath(path)).removingLastComponent()
        func absolute(_ path: String) -> String {
            path.hasPrefix("/") ? path : directory.appending(FilePath(path).components).string
        }
        for index in images.indices {
            guard !images[index].path.isEmpty else {
                throw Failure(.usage, "\(path): images.\(index): the path is empty")
            }
            images[index].path = absolute(images[index].path)
            images[index].header = images[index].header.map(absolute)
            images[index].passphraseFile = images[index].passphraseFile.map(absolute)
            images[index].keyFile = images[index].keyFile.map(absolute)
            images[index].allowReferences = images[index].allowReferences.map { $0.map(absolute) }
            try images[index].check(path)
        }
    }

    private static func explanation(_ error: any Error) -> String {
        func place(_ context: DecodingError.Context) -> String {
            let path = context.codingPath.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
            return path.isEmpty ? "the file" : path
        }
        return switch error {
        case DecodingError.keyNotFound(let key, let context): "\(place(context)): \(key.stringValue) is missing"
        // Foundation says no more of either.
        case DecodingError.dataCorrupted(let context) where context.debugDescription.contains("valid JSON"):
            "it is not valid JSON, or a number in it is negative, too large or not whole"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
            DecodingError.dataCorrupted(let context):
            "\(place(context)): \(context.debugDescription)"
        default: "it cannot be read as JSON"
        }
    }
}

/// Any key of an object.
private struct AnyKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}

extension Decoder {
    /// A key that is misspelt must not be passed over.
    fileprivate func refuseUnknownKeys(_ known: [String]) throws {
        let all = try container(keyedBy: AnyKey.self)
        if let unknown = all.allKeys.first(where: { !known.contains($0.stringValue) }) {
            throw DecodingError.dataCorrupted(
                .init(
                    codingPath: codingPath,
                    debugDescription: "\(unknown.stringValue) is not known; there are \(known.joined(separator: ", "))")
            )
        }
    }
}

extension ServeConfiguration {
    enum CodingKeys: String, CodingKey, CaseIterable { case images }

    init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.allCases.map(\.rawValue))
        images = try decoder.container(keyedBy: CodingKeys.self).decode([Image].self, forKey: .images)
    }
}

extension ServeConfiguration.Image {
    init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.allCases.map(\.rawValue))
        let values = try decoder.container(keyedBy: CodingKeys.self)
        path = try values.decode(String.self, forKey: .path)
        name = try values.decodeIfPresent(String.self, forKey: .name)
        format = try values.decodeIfPresent(String.self, forKey: .format)
        header = try values.decodeIfPresent(String.self, forKey: .header)
        passphraseFile = try values.decodeIfPresent(String.self, forKey: .passphraseFile)
        keyFile = try values.decodeIfPresent(String.self, forKey: .keyFile)
        exports = try values.decodeIfPresent([String].self, forKey: .exports)
        partition = try values.decodeIfPresent(Int.self, forKey: .partition)
        snapshot = try values.decodeIfPresent(String.self, forKey: .snapshot)
        offset = try values.decodeIfPresent(UInt64.self, forKey: .offset)
        size = try values.decodeIfPresent(UInt64.self, forKey: .size)
        sectorSize = try values.decodeIfPresent(Int.self, forKey: .sectorSize)
        logicalVolume = try values.decodeIfPresent(String.self, forKey: .logicalVolume)
        references = try values.decodeIfPresent(String.self, forKey: .references)
        allowReferences = try values.decodeIfPresent([String].self, forKey: .allowReferences)
        // One value, or a list of them.
        let one = try? values.decodeIfPresent(String.self, forKey: .backingFormat)
        backingFormat = try one.map { [$0] } ?? values.decodeIfPresent([String].self, forKey: .backingFormat)
    }

    /// Refuses values that no option would take.
    fileprivate func check(_ file: String) throws {
        if let format, ImageFormat(rawValue: format) == nil {
            let known = ImageFormat.allCases.map(\.rawValue).joined(separator: ", ")
            throw Failure(.usage, "\(file): \(path): the format \(format) is not known; there are \(known)")
        }
        do { _ = try formats() } catch { throw Failure(.usage, "\(file): \(path): backing-format: \(error)") }
        if let references, FileReferences.Policy(rawValue: references) == nil {
            throw Failure(.usage, "\(file): \(path): references may be deny, same-directory or allow")
        }
        guard partition.map({ $0 > 0 }) ?? true, size.map({ $0 > 0 }) ?? true else {
            throw Failure(.usage, "\(file): \(path): partition and size are above 0")
        }
        guard logicalVolume.map(DiskSelection.isLogicalVolume) ?? true else {
            throw Failure(.usage, "\(file): \(path): logical-volume is a volume group and a volume, as in vg0/root")
        }
        if let sectorSize, !PartitionTable.sectorSizes.contains(sectorSize) {
            throw Failure(.usage, "\(file): \(path): sector-size may be 512, 1024, 2048 or 4096")
        }
    }

    /// The formats of backing files; nil when it says none.
    private func formats() throws(BackingFormats.Mistake) -> BackingFormats? {
        guard let backingFormat else { return nil }
        var values: [BackingFormats.Value] = []
        for text in backingFormat { values.append(try BackingFormats.Value(text)) }
        return try BackingFormats(values)
    }

    /// Its own secrets; nil when it has none.
    var secrets: SecretOptions? {
        guard passphraseFile != nil || keyFile != nil else { return nil }
        var options = SecretOptions()
        options.passphraseFile = passphraseFile.map { [$0] } ?? []
        options.passphraseFd = []
        options.keyFile = keyFile.map { [$0] } ?? []
        options.keyFileOffset = []
        options.keyFileSize = []
        options.rawKeyFile = nil
        options.volumeKeyFile = []
        options.secret = []
        options.passphraseOnCommandLine = nil
        return options
    }

    /// How to open it.
    func options(_ common: OpeningOptions) -> OpeningOptions {
        var options = common
        options.path = path
        if let format { options.format = ImageFormat(rawValue: format) ?? common.format }
        options.luksHeader = header
        let policy = references.flatMap(FileReferences.Policy.init)
        if policy != nil || allowReferences != nil {
            let allowed = (allowReferences ?? []).map { FilePath($0) }
            options.references = FileReferences(policy ?? .sameDirectory, allowed: allowed)
        }
        if let formats = try? formats() { options.formats = formats }
        options.selection = DiskSelection()
        options.selection.names = exports.map(DiskSelection.Names.init) ?? common.selection.names
        options.selection.partition = partition
        options.selection.snapshot = snapshot
        options.selection.offset = offset
        options.selection.size = size
        options.selection.logicalVolume = logicalVolume
        if let sectorSize { options.sectorSize = sectorSize }
        return options
    }
}
