// SPDX-License-Identifier: Apache-2.0

/// Opens what holds an image, wherever that is: the one place that knows all kinds of sources.
public struct SourceOpener: Sendable {
    /// Keep others from writing to it meanwhile, as ``FileDevice`` does.
    public var excludesWriters = true
    /// Open it for writing as well.
    public var isWritable = false
    /// Write to it even where nothing keeps others away.
    public var allowsUnlocked = false
    /// How long a request to a source far away may take.
    public var timeLimit = RemoteDevice.usualTimeLimit
    /// Bytes of the blocks that are kept of a source far away, all together.
    public var memory = CachingDevice.usualMemory
    /// By what is waited for a source far away; nil: the time of this machine.
    public var clock: (any SourceClock)?

    /// Reads, and keeps writers away.
    public init() {}

    /// Opens a source.
    ///
    /// - Throws: ``FormatError`` with code `unreadable` or `inUse`: one sentence, without the name.
    public func open(_ source: ImageSource) throws(FormatError) -> OpenSource {
        switch source {
        case .file(let path):
            let file = try FileDevice(
                path: path, excludesWriters: excludesWriters, isWritable: isWritable, allowsUnlocked: allowsUnlocked)
            return OpenSource(
                device: file, identity: .file(file.identity), place: .directory(try ImagePlace(path)),
                name: source.name, missingLocks: file.missingLocks)
        case .remote(let remote, let name):
            guard !isWritable || remote.isWritable else {
                throw .unreadable("it cannot be written to; serve it without --writable")
            }
            let device = try RemoteDevice(remote, allowsChanges: isWritable, timeLimit: timeLimit, clock: clock)
            return OpenSource(
                device: CachingDevice(device, memory: memory), identity: device.identity, place: .nowhere, name: name,
                missingLocks: nil)
        }
    }
}
