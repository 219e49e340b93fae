// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Counts what kinds of sectors the samples are.
struct SectorCensus {
    /// Sectors that are not noise.
    private(set) var structured = 0
    /// Sectors that look like noise.
    private(set) var noise = 0
    /// Sectors that were never encrypted, or seen before.
    private(set) var repetitive = 0
    /// How often each byte value occurs in the noise sectors.
    private var histogram = [Int](repeating: 0, count: 256)
    /// The start of the second block of each noise sector.
    private var seen: Set<UInt64> = []

    /// Counts whole sectors.
    mutating func add(_ bytes: [UInt8]) {
        let size = Int(EvidenceReader.sectorSize)
        bytes.withBytes { bytes in
            for start in stride(from: 0, to: bytes.byteCount / size * size, by: size) {
                add(sector: bytes.extracting(start..<(start + size)))
            }
        }
    }

    private mutating func add(sector: RawSpan) {
        switch SectorCharacter(sector) {
        case .structured: structured += 1
        case .repetitive: repetitive += 1
        // Ciphertext never occurs twice; stale data does. The second block does not depend on the place.
        case .noise where !seen.insert(sector.littleEndianWord(at: 16)).inserted: repetitive += 1
        case .noise:
            noise += 1
            for offset in 0..<sector.byteCount { histogram[Int(sector.byte(at: offset))] += 1 }
        }
    }

    /// Are the byte values of all noise sectors together too uneven for real noise?
    ///
    /// Most compressed formats (deflate, JPEG, MP3, bzip2) look like noise sector by sector, but prefer some byte values
    /// a little, which shows in many sectors. The test is chi-square with 255 degrees of freedom: for real noise its mean
    /// is 255 and its standard deviation 22.6. The chance of more than 500 is 4 × 10^-18 in the limit, and below 10^-12
    /// for as few as 64 sectors.
    var isUneven: Bool {
        let total = noise * Int(EvidenceReader.sectorSize)
        // With fewer, the distribution is far from its limit, and the test has no power anyway.
        guard noise >= 64 else { return false }
        let expected = Double(total) / 256
        let chiSquare = histogram.reduce(0.0) { sum, count in
            let difference = Double(count) - expected
            return sum + difference * difference / expected
        }
        return chiSquare > 500
    }
}
