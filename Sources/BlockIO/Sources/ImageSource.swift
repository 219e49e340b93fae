// SPDX-License-Identifier: Apache-2.0

public import SystemPackage

/// Where the bytes of an image come from.
public enum ImageSource: Sendable {
    /// A file or a block device of this machine.
    case file(FilePath)
    /// What a library has connected to; `name` is for people, without credentials.
    case remote(any AsyncSource, name: String)

    /// For people.
    public var name: String {
        switch self {
        case .file(let path): path.string
        case .remote(_, let name): name
        }
    }
}

/// Where the names start that an image uses of others.
public enum SourcePlace: Sendable {
    /// In a directory of this machine.
    case directory(ImagePlace)
    /// Nowhere: an image far away names no files of this machine.
    case nowhere
}
