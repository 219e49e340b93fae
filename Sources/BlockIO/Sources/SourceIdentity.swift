// SPDX-License-Identifier: Apache-2.0

/// Which source this is, whatever name it was found by.
public enum SourceIdentity: Hashable, Sendable {
    /// A file or a block device of this machine.
    case file(FileDevice.Identity)
    /// Something far away.
    ///
    /// - `place`: the URL, or pool/image@snapshot, without credentials and written in one way: two names of one place are
    ///   equal.
    /// - `version`: of its contents, as an ETag tells; empty where nothing does.
    case remote(place: String, version: String)

    /// Are both the same place, in whatever version? An image that is above itself in a chain is found by this.
    public func isSamePlace(as other: SourceIdentity) -> Bool {
        switch (self, other) {
        case (.file(let one), .file(let other)): one == other
        case (.remote(let one, _), .remote(let other, _)): one == other
        case (.file, .remote), (.remote, .file): false
        }
    }
}
