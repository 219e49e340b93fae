// SPDX-License-Identifier: Apache-2.0

public import ArgumentParser
public import BlockIO
import DiskStack
import ImageFormats
import SystemPackage

/// The options that say which files an image may name and have opened.
struct ReferenceOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            Open backing files and data files that the image names: none (deny), those below its own directory \
            (same-directory, the default), or any (allow).
            """, valueName: "policy"))
    var references: FileReferences.Policy = .sameDirectory

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Open this file when an image names it, whatever the policy is. Can be repeated.", valueName: "path"))
    var allowReference: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            The format of backing files whose format the image does not say; with "N=" in front of it that of layer N, where \
            the image itself is layer 0. Without it they are raw if they look like nothing else. Can be repeated.
            """, valueName: "format"),
        transform: { text in
            do { return try BackingFormats.Value(text) } catch { throw ValidationError("\(error)") }
        })
    var backingFormat: [BackingFormats.Value] = []

    func validate() throws {
        do { _ = try BackingFormats(backingFormat) } catch { throw ValidationError("--backing-format: \(error)") }
    }

    /// The formats of backing files.
    /// - Throws: ``Failure`` when they contradict each other.
    func formats() throws(Failure) -> BackingFormats {
        do { return try BackingFormats(backingFormat) } catch { throw Failure(.usage, "--backing-format: \(error)") }
    }

    /// Which files may be opened.
    var policy: FileReferences {
        FileReferences(references, allowed: allowReference.map { FilePath(Process.absolutePath($0)) })
    }
}

extension FileReferences.Policy: ExpressibleByArgument {}
