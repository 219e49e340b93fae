// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Does the decrypted view of an image look like a disk, or like noise?
///
/// Legacy AES images hold nothing that tells a right passphrase from a wrong one: a wrong one decrypts every sector to
/// noise. So the view is examined as a person would do it: first for partition tables, file systems and volume labels
/// at their known places, then, when none is there, for anything in a spread of samples that noise would not be.
/// How well that works is measured in docs/passphrase-check.md.
public struct ContentCheck: Sendable, Equatable {
    /// What the contents say of the passphrase.
    public enum Verdict: Sendable {
        /// Something was found that a wrong passphrase would not give in the life of the universe.
        case plausible
        /// There is enough data, and all of it looks like noise.
        case implausible
        /// Too little is stored in encrypted form.
        case cannotTell
    }

    /// What the contents say of the passphrase.
    public let verdict: Verdict
    /// What was found, in the order of the disk: "MBR, 2 partitions", "ext4 in partition 1".
    public let recognised: [String]
    /// One sentence with what the verdict rests on, for the log and for error messages; holds no guest data.
    public let summary: String

    /// How many noise sectors it takes to call a passphrase wrong.
    ///
    /// The first things written to a disk are partition tables and superblocks, which are never noise from end to end;
    /// 4 KiB is the least that programs write of those. See the measurements in docs/passphrase-check.md.
    static let leastNoise = 8

    /// Examines the decrypted view of an image.
    ///
    /// Only bytes that have passed the cipher count, which are those in extents of kind ``Extent/Kind/data``. What
    /// cannot be read is left out. At most 4 MiB are read and 4096 extents asked for, whatever the size of the image.
    ///
    /// - Parameter device: the decrypted view; read with ``ReadMode/mayBlock``, so this may take a moment.
    public static func examine(_ device: any BlockDevice) -> ContentCheck {
        // Structures of a real disk take less than 1400 extents and 1.5 MiB, however many partitions it has; samples get
        // the rest.
        var reader = EvidenceReader(device, extentBudget: 4096, byteBudget: 4 << 20)
        let structures = DiskStructure.recognise(&reader)
        guard structures.isEmpty else {
            return ContentCheck(verdict: .plausible, recognised: structures, summary: list(structures))
        }
        var census = SectorCensus()
        for place in SampleSpread(&reader).places {
            if let bytes = reader.bytes(at: place.offset, count: Int(place.length)) { census.add(bytes) }
        }
        return ContentCheck(census)
    }

    private init(verdict: Verdict, recognised: [String], summary: String) {
        self.verdict = verdict
        self.recognised = recognised
        self.summary = summary
    }

    /// Judges an image in which no structure was recognised.
    private init(_ census: SectorCensus) {
        let sampled = census.structured + census.noise + census.repetitive
        if census.structured > 0 {
            let text = "data that is not noise in \(census.structured) of \(sampled) sampled sectors"
            self.init(verdict: .plausible, recognised: [text], summary: "\(text); no known file system")
        } else if census.isUneven {
            let text = "data that looks compressed in \(census.noise) sampled sectors"
            self.init(verdict: .plausible, recognised: [text], summary: "\(text); no known file system")
        } else if census.noise >= Self.leastNoise {
            self.init(
                verdict: .implausible, recognised: [],
                summary: "\(census.noise) of \(sampled) sampled sectors look like noise, "
                    + "and there is no partition table or file system")
        } else {
            let summary =
                if sampled == 0 {
                    "the image stores no encrypted data that can be read"
                } else if census.noise == 0 {
                    "none of \(sampled) sampled sectors has ever been written"
                } else {
                    "no more than \(census.noise) of \(sampled) sampled sectors say anything"
                }
            self.init(verdict: .cannotTell, recognised: [], summary: summary)
        }
    }

    /// The findings as one line of bounded length.
    private static func list(_ findings: [String]) -> String {
        let most = 12
        let rest = findings.count > most ? ["and \(findings.count - most) more"] : []
        return (findings.prefix(most) + rest).joined(separator: "; ")
    }
}
