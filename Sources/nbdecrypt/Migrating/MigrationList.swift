// SPDX-License-Identifier: Apache-2.0

import BlockIO
import SystemPackage

/// A text that lists images to copy, one in a line: the image, and behind a tab where its secret is, if it needs one of its own.
/// Empty lines, and those that begin with #, are left out. Relative paths start in the directory of the list.
struct MigrationList {
    let jobs: [MigrationJob]

    /// Larger texts are not read.
    private static let maximumSize = 64 << 20

    /// Reads it.
    ///
    /// - Parameters:
    ///   - path: "-" is standard input.
    ///   - directory: where the new images go, under the names of the old ones, with the extension of their format.
    ///   - format: of the new images.
    ///   - common: where the secrets of images are that have none of their own.
    /// - Throws: ``Failure``, with the number of the line.
    init(_ path: String, directory: String, format: TargetFormat, common: SecretPlaces) throws(Failure) {
        let start = path == "-" ? nil : Process.directory(of: path)
        var jobs: [MigrationJob] = []
        var lines: [String: Int] = [:]
        for (index, line) in Self.lines(of: try Self.read(path)).enumerated() {
            guard !line.isEmpty, !line.hasPrefix("#") else { continue }
            let place = "\(path == "-" ? "the list" : path), line \(index + 1)"
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            guard fields.count <= 2, !fields[0].isEmpty else {
                throw Failure(.usage, "\(place): it takes an image and, behind a tab, where its secret is")
            }
            let source = PathArgument.source(fields[0], from: start)
            if fields.count == 1, Self.hasSpaceForTab(line), !Self.exists(source) {
                throw Failure(
                    .usage,
                    "\(place): before the place of the secret there is a space, and it takes a tab: the names of files have spaces"
                )
            }
            var secrets = common
            if fields.count == 2, !fields[1].isEmpty {
                guard let own = SecretSource(text: fields[1]), !own.isReadOnce else {
                    throw Failure(
                        .usage,
                        "\(place): where the secret is: passphrase-file:PATH or another source of --secret is allowed, but for fd and standard input"
                    )
                }
                secrets = SecretPlaces(own.located(from: start))
            }
            let new = "\(directory)/\(Self.stem(source.lastComponent)).\(format.fileExtension)"
            if let other = lines.updateValue(index + 1, forKey: new) {
                throw Failure(
                    .usage,
                    "\(place): \(new) is the new image of line \(other) as well; give that one a list of its own")
            }
            jobs.append(MigrationJob(source: source, new: new, secrets: secrets))
        }
        guard !jobs.isEmpty else { throw Failure(.usage, "\(path): there is no image in it") }
        self.jobs = jobs
    }

    /// Lines end in LF, or in CR LF as on Windows. To Swift, these two are one character.
    private static func lines(of text: String) -> [Substring] {
        text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            Substring(line.last == "\r" ? line.dropLast() : line)
        }
    }

    /// Does it end in a space, and in where a secret is?
    private static func hasSpaceForTab(_ line: Substring) -> Bool {
        // Names of files are shorter.
        line.utf8.count < 16 << 10
            && line.indices.contains { line[$0] == " " && SecretSource(text: line[$0...].drop { $0 == " " }) != nil }
    }

    private static func exists(_ source: ImageSource) -> Bool {
        if case .file(let path) = source { Process.exists(path.string) } else { false }
    }

    private static func stem(_ name: String) -> String {
        guard let dot = name.lastIndex(of: "."), dot > name.startIndex else { return name }
        return String(name[..<dot])
    }

    private static func read(_ path: String) throws(Failure) -> String {
        let bytes: [UInt8]?
        do { bytes = try Process.read(path, atMost: maximumSize) } catch {
            throw Failure(.cannotOpen, "the list \(path) cannot be read: \(error); check the name")
        }
        guard let bytes else { throw Failure(.usage, "the list \(path) has more than \(maximumSize) bytes") }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Failure(.usage, "the list \(path) is no text in UTF-8")
        }
        return text
    }
}
