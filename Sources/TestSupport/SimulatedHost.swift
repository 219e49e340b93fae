// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A machine far away with images on it, which are reached by URLs that begin with "sim://host/".
public final class SimulatedHost: Sendable {
    private let clock: VirtualClock?
    private let sources = Locked<[String: SimulatedSource]>([:])

    /// - Parameter clock: in whose time answers come; nil: they come at once.
    public init(clock: VirtualClock?) { self.clock = clock }

    /// Puts a disk on the machine.
    @discardableResult
    public func add(_ name: String, _ contents: any BlockDevice, depth: Int = 64) -> SimulatedSource {
        let source = SimulatedSource(contents, place: "sim://host/\(name)", clock: clock, depth: depth)
        sources.withLock { $0[name] = source }
        return source
    }

    /// What was put there by this name.
    public func source(_ name: String) -> SimulatedSource? { sources.withLock { $0[name] } }

    /// How it is reached.
    public var kind: SourceKind {
        SourceKind(schemes: ["sim"]) { [self] (url, _) throws(FormatError) in
            guard let source = sources.withLock({ $0[url.lastComponent] }), url.text.hasPrefix("sim://host/") else {
                throw .unreadable("the machine has no such image")
            }
            return source
        }
    }

    /// Opens what is on it.
    public var opener: SourceOpener {
        var opener = SourceOpener(kinds: [kind])
        opener.clock = clock
        return opener
    }

    /// The name of something on it.
    public static func source(_ name: String) -> ImageSource { ImageSource("sim://host/\(name)") }
}
