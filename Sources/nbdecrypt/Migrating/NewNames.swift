// SPDX-License-Identifier: Apache-2.0

import SystemPackage

/// The names of the images that are made beside a new one: what they are goes before the extension of its name.
struct NewNames {
    /// Up to the extension.
    private let start: String
    /// With its dot; "" when there is none.
    private let end: String
    /// Of the last component of ``start``, in bytes.
    private let stemLength: Int

    /// As much of the name of a snapshot is taken over, in bytes.
    private static let snapshotNameLength = 80

    /// - Parameter new: the path of the new image.
    init(_ new: String) {
        let name = FilePath(new).lastComponent
        let fileExtension = name?.extension.map { ".\($0)" } ?? ""
        let hasExtension = !fileExtension.isEmpty && new.hasSuffix(fileExtension)
        end = hasExtension ? fileExtension : ""
        start = hasExtension ? String(new.dropLast(fileExtension.count)) : new
        stemLength = (name?.string.utf8.count ?? 0) - end.utf8.count
    }

    /// The new image of a backing file.
    /// - Parameter number: of the layer; 1 is that on which the image itself stands.
    func backingFile(_ number: Int) -> String { "\(start).backing-\(number)\(end)" }

    /// The new image of a snapshot.
    ///
    /// - Parameters:
    ///   - number: tells it from all others; names need not.
    ///   - name: what of it may be in the name of a file is there, other characters are underscores.
    func snapshot(_ number: Int, named name: String) -> String {
        let begin = ".snapshot-\(number)"
        let others = stemLength + begin.utf8.count + 1 + end.utf8.count + NewFile.suffix.utf8.count
        let shown = Self.fileName(name, atMost: min(Self.snapshotNameLength, NewFile.maximumNameLength - others))
        return "\(start)\(begin)\(shown.isEmpty ? "" : "-\(shown)")\(end)"
    }

    private static func fileName(_ name: String, atMost length: Int) -> String {
        var text = ""
        for scalar in name.unicodeScalars {
            let next = String(isKept(scalar) ? scalar : "_")
            guard text.utf8.count + next.utf8.count <= length else { break }
            text += next
        }
        return text
    }

    private static func isKept(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .decimalNumber,
            .nonspacingMark, .spacingMark:
            true
        default: "-_.".unicodeScalars.contains(scalar)
        }
    }
}
