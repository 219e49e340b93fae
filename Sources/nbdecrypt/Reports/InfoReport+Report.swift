// SPDX-License-Identifier: Apache-2.0

import DiskStack

extension InfoReport: Report {
    /// The report for people.
    var text: String {
        var lines: [(String, String)] = [("image", image)]
        lines.append(("format", version.map { "\(format) version \($0)" } ?? format))
        if let part { lines.append(("part", part)) }
        lines.append(("virtual size", virtualSize.map { "\($0) bytes\(ByteText.rounded($0))" } ?? "unknown"))
        if let headerSize {
            lines.append(
                (
                    "size in header",
                    "\(headerSize) bytes; the rest of less than a sector of 512 is not served, as in QEMU"
                ))
        }
        lines.append(("file size", "\(fileSize) bytes\(ByteText.rounded(fileSize))"))
        if let clusterSize { lines.append(("cluster size", "\(clusterSize) bytes")) }
        if let features {
            let all = features.incompatible + features.compatible + features.autoclear
            lines.append(("features", all.isEmpty ? "none" : all.joined(separator: ", ")))
        }
        if let compression { lines.append(("compression", compression)) }
        if let backingFile {
            lines.append(
                ("backing file", "\(backingFile) (not opened), \(backingFormat.map { "format \($0)" } ?? "no format")"))
        }
        if let dataFile { lines.append(("data file", "\(dataFile) (not opened)")) }
        if let snapshots, snapshots > 0 { lines.append(("snapshots", "\(snapshots)")) }
        if let clusters {
            let least = clusters.isComplete ? "" : "at least "
            lines.append(
                (
                    "clusters",
                    "\(least)\(clusters.allocated) of \(clusters.total) allocated, \(clusters.compressed) compressed, "
                        + "\(clusters.zero) zero"
                ))
            if encryption.method != "none", clusters.compressed > 0 {
                lines.append(("leak", "compressed clusters are never encrypted: their contents can be read by anybody"))
            }
            if clusters.faults > 0 { lines.append(("damage", "\(clusters.faults) entries of the tables are wrong")) }
        }
        lines.append(("encryption", encryption.description))
        lines += luks?.lines ?? []
        lines += disk?.lines ?? []
        if let decrypted {
            let isKnown = !decrypted.lines.isEmpty
            lines.append(
                (
                    "decrypted",
                    isKnown ? "with the secret; on the disk is:" : "with the secret; nothing is known of the disk"
                ))
            lines += decrypted.lines
        }
        lines += encryption.weaknesses.map { ("weak", $0) }
        if let refusal { lines.append(("serve", "refused: \(refusal)")) }
        lines += (passphraseCheck?.lines ?? []).map { ("secret", $0) }
        lines += plan?.lines ?? []
        let table = Self.table(lines)
        if let plan { return (table + plan.advice).joined(separator: "\n") }
        if let luks, !luks.verdict.commands.isEmpty {
            let isNewImage = luks.verdict.commands.contains { $0.hasPrefix("nbdecrypt migrate ") }
            let introduction =
                isNewImage
                ? "To improve it, make a new image, with a new passphrase:"
                : "To improve it, with a backup at hand, type:"
            return (table + [introduction] + luks.verdict.commands.map { "  \($0)" })
                .joined(separator: "\n")
        }
        guard let step = encryption.nextSteps.first else { return table.joined(separator: "\n") }
        return table.joined(separator: "\n")
            + "\nTo move the disk to LUKS, with a new passphrase, type:\n  \(step)"
    }
}
