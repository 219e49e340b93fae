// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import SystemPackage

/// The path of a file, or the URL of an image, as somebody wrote it. A relative one starts where it was written: on the command line in the working
/// directory, in a configuration file in the directory of that.
struct PathArgument: ExpressibleByArgument {
    private let text: String

    static let defaultCompletionKind = CompletionKind.file()

    init(argument: String) { text = argument }

    var isEmpty: Bool { text.isEmpty }

    /// The path for this process.
    ///
    /// - Parameter directory: in which it was written; nil: the working directory.
    func path(from directory: FilePath?) -> String { Self.path(text, from: directory) }

    /// The image of this name; a URL starts nowhere.
    func source(from directory: FilePath?) -> ImageSource { Self.source(text, from: directory) }

    /// The same of the name of an image.
    static func source(_ name: String, from directory: FilePath?) -> ImageSource {
        switch ImageSource(name) {
        case .file: .file(FilePath(path(name, from: directory)))
        case let remote: remote
        }
    }

    /// The same of a path in the middle of an argument.
    static func path(_ text: String, from directory: FilePath?) -> String {
        guard let directory, !text.hasPrefix("/") else { return text }
        return directory.appending(FilePath(text).components).string
    }
}
