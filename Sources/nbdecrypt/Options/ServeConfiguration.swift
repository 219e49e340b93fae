// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import FoundationEssentials
import SystemPackage

/// A JSON file that says which images to serve and how: `serve --config`.
struct ServeConfiguration {
    /// One image; what is not said is as the command line says it.
    struct Image {
        /// Paths are absolute.
        let source: ImageSource
        /// Of the export; without it the name of the image.
        let name: String?
        /// What is said of it.
        let options: ServedImageOptions
    }

    let images: [Image]
    private let path: String
    /// In which relative paths start.
    private let directory: FilePath

    /// Larger files are not read.
    private static let maximumSize = 1 << 20

    /// Reads the file.
    /// - Throws: ``Failure`` with status 64 for anything that is not understood.
    init(path: String) throws {
        self.path = path
        let directory = Process.directory(of: path)
        self.directory = directory
        let bytes = try Self.read(path)
        let contents: ConfigurationContents
        do { contents = try JSONDecoder().decode(ConfigurationContents.self, from: Data(bytes)) } catch {
            throw Failure(.usage, "\(path): \(Self.explanation(error))")
        }
        guard !contents.images.isEmpty else { throw Failure(.usage, "\(path): images: there is none") }
        images = try contents.images.enumerated().map { index, entry in
            guard !entry.path.isEmpty else { throw Failure(.usage, "\(path): images.\(index): the path is empty") }
            let source = PathArgument.source(entry.path, from: directory)
            return Image(
                source: source, name: entry.name, options: try Self.options(entry, "\(path): \(source.name)"))
        }
    }

    /// Takes over what is said of an image, in place of what the command line says.
    /// - Throws: ``Failure`` with status 64 when the two contradict each other.
    func treatment(of image: Image, _ common: ImageTreatment) throws -> ImageTreatment {
        var treatment = common
        do {
            try treatment.apply(image.options, from: directory)
            try treatment.check()
        } catch {
            throw Failure(.usage, "\(path): \(image.source.name): \(ServedImageOptions.message(for: error))")
        }
        return treatment
    }

    private static func read(_ path: String) throws -> [UInt8] {
        do {
            let file = try FileDevice(path: FilePath(path), excludesWriters: false)
            guard file.size <= maximumSize else {
                throw Failure(.usage, "\(path): more than \(maximumSize) bytes; is it the right file?")
            }
            return try file.read(count: Int(file.size), at: 0)
        } catch let error as FormatError {
            throw Failure(error, image: path)
        }
    }

    /// Parses what an entry says as options of the program.
    private static func options(_ entry: ConfigurationEntry, _ place: String) throws -> ServedImageOptions {
        let options: ServedImageOptions
        do { options = try ServedImageOptions.parse(entry.arguments) } catch {
            let message = ServedImageOptions.message(for: error).replacing("\n", with: " ")
            throw Failure(.usage, "\(place): \(message)")
        }
        guard !options.secret.isReadOnce else {
            throw Failure(
                .usage,
                "\(place): standard input and descriptors can be read only once, and are for the command line: name a file"
            )
        }
        return options
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
            "it is not valid JSON, or a number in it is too large"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
            DecodingError.dataCorrupted(let context):
            "\(place(context)): \(context.debugDescription)"
        default: "it cannot be read as JSON"
        }
    }
}
