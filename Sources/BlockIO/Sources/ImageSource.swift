// SPDX-License-Identifier: Apache-2.0

public import SystemPackage

/// Where the bytes of an image come from.
public enum ImageSource: Hashable, Sendable {
    /// A file or a block device of this machine.
    case file(FilePath)
    /// What is reached by a protocol.
    case remote(SourceURL)

    /// What somebody means by the name of an image: a path, or a URL. Whether there is such a file makes no difference.
    public init(_ name: String) { self = SourceURL(name).map(Self.remote) ?? .file(FilePath(name)) }

    /// For people, without a password.
    public var name: String {
        switch self {
        case .file(let path): path.string
        case .remote(let url): url.shown
        }
    }

    /// What the image is called in its directory.
    public var lastComponent: String {
        switch self {
        case .file(let path): path.lastComponent?.string ?? path.string
        case .remote(let url): url.lastComponent
        }
    }
}
