// SPDX-License-Identifier: Apache-2.0

import SystemPackage

/// The bytes of an image, open.
public struct OpenSource: Sendable {
    /// An image format may allocate in it, if it is writable.
    public let device: any GrowableDevice
    /// The same for all names of one source.
    public let identity: SourceIdentity
    /// Where names in the image start.
    public let place: SourcePlace
    /// For people.
    public let name: String
    /// Why nobody is kept from writing to it, though that was wanted: a sentence for a warning.
    public let missingLocks: String?

    /// A file that is open.
    ///
    /// - Parameter place: where it was found.
    public init(_ file: FileDevice, _ place: ImagePlace) {
        device = file
        identity = .file(file.identity)
        self.place = .directory(place, owner: file.owner)
        name = place.path.string
        missingLocks = file.missingLocks
    }

    /// What `url` has led to.
    init(_ device: CachingDevice, _ identity: SourceIdentity, _ url: SourceURL, missingLocks: String?) {
        self.device = device
        self.identity = identity
        place = .beside(url)
        name = url.shown
        self.missingLocks = missingLocks
    }

    /// Can other programs of this machine open it by its name?
    public var isFile: Bool {
        switch identity {
        case .file: true
        case .remote: false
        }
    }
}

/// Where the names start that an image uses of others.
public enum SourcePlace: Sendable {
    /// In a directory of this machine; `owner` is the user whose file the image is.
    case directory(ImagePlace, owner: UInt32)
    /// In the directory of a URL, and nowhere else: an image far away names no files of this machine.
    case beside(SourceURL)
}
