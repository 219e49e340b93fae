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
    var references: FileReferences.Policy?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Open this file when an image names it, whatever the policy is. Can be repeated.", valueName: "path"))
    var allowReference: [PathArgument] = []

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

    func validate() throws { _ = try formats() }

    /// Is nothing said?
    var isEmpty: Bool { references == nil && allowReference.isEmpty && backingFormat.isEmpty }

    /// What is said, for a command to type.
    var remedies: [Remedy] {
        [references.map { .references(policy: $0.rawValue) }].compactMap { $0 }
            + allowReference.map { .allowReference(path: $0.path(from: nil)) }
            + backingFormat.map { .backingFormat(layer: $0.layer, format: $0.format.rawValue) }
    }

    private func formats() throws -> BackingFormats {
        do { return try BackingFormats(backingFormat) } catch { throw ValidationError("--backing-format: \(error)") }
    }

    /// Says what is given of it: the policy and the files that are opened whatever it is belong together.
    ///
    /// - Parameter directory: in which relative paths start; nil: the working directory.
    /// - Throws: `ValidationError` when formats contradict each other.
    func apply(to options: inout OpeningOptions, from directory: FilePath? = nil) throws {
        if references != nil || !allowReference.isEmpty {
            options.references = FileReferences(
                references ?? .sameDirectory,
                allowed: allowReference.map { FilePath(Process.absolutePath($0.path(from: directory))) })
        }
        if !backingFormat.isEmpty { options.formats = try formats() }
    }
}

extension FileReferences.Policy: ExpressibleByArgument {}
