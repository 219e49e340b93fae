// SPDX-License-Identifier: Apache-2.0

/// Opens what holds an image, wherever that is: the one place that knows all kinds of sources.
public struct SourceOpener: Sendable {
    /// What URLs are opened by.
    public var kinds: [SourceKind]
    /// How long a request to a source far away may take.
    public var timeLimit = RemoteDevice.usualTimeLimit
    /// Bytes of the blocks that are kept of a source far away, all together.
    public var memory = CachingDevice.usualMemory
    /// By what is waited for a source far away; nil: the time of this machine.
    public var clock: (any SourceClock)?

    /// - Parameter kinds: what URLs are opened by.
    public init(kinds: [SourceKind] = SourceKind.all) { self.kinds = kinds }

    /// Opens a source; waits for one that is far away.
    ///
    /// - Throws: ``FormatError`` with code `unreadable` or `inUse`: one sentence, without the name.
    public func open(_ source: ImageSource, _ access: SourceAccess = SourceAccess()) throws(FormatError) -> OpenSource {
        switch source {
        case .file(let path):
            let file = try FileDevice(
                path: path, excludesWriters: access.excludesWriters, isWritable: access.isWritable,
                allowsUnlocked: access.allowsUnlocked)
            return OpenSource(file, try ImagePlace(path))
        case .remote(let url):
            guard let kind = kinds.first(where: { $0.schemes.contains(url.scheme) }) else { throw refusal(url) }
            return try open(url, kind, access)
        }
    }

    private func open(_ url: SourceURL, _ kind: SourceKind, _ access: SourceAccess) throws(FormatError) -> OpenSource {
        let lack = "it is far away, where nothing keeps other programs from writing to it"
        guard !access.isWritable || access.allowsUnlocked else {
            throw .unreadable(
                "\(lack); see to it that nobody else opens it, and add \(remedy: .allowUnlocked), or serve it without \(remedy: .writable)"
            )
        }
        let source = try kind.connect(url, access.isWritable)
        guard !access.isWritable || source.isWritable else {
            throw .unreadable("it cannot be written to; serve it without \(remedy: .writable)")
        }
        let device = try RemoteDevice(
            source, allowsChanges: access.isWritable, timeLimit: timeLimit, clock: clock)
        return OpenSource(
            CachingDevice(device, memory: memory), device.identity, url,
            missingLocks: access.excludesWriters ? lack : nil)
    }

    private func refusal(_ url: SourceURL) -> FormatError {
        let schemes = kinds.flatMap(\.schemes).sorted()
        let known = schemes.isEmpty ? "" : ", and from URLs that begin with \(schemes.joined(separator: ", "))"
        let isURL = url.text.contains("://")
        let advice =
            switch url.scheme {
            case "file", "host_device", "host_cdrom": "name the file or block device by its path"
            case "nbd", "nbds", "nbd+unix", "nbds+unix", "nbd+vsock", "nbds+vsock":
                "copy the image first: nbdcopy \(isURL ? ShellText.quoted(url.text) : "URI") image, then name that file"
            default: "copy the image to a file first, and name that"
            }
        let path = isURL ? "" : "; a file of that name in the directory is \(ShellText.quoted("./\(url.text)"))"
        return .unreadable(
            "this is reached by \(url.scheme), which is not read here: images are opened from files and block devices\(known); "
                + "\(advice)\(path)")
    }
}
