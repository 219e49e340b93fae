// SPDX-License-Identifier: Apache-2.0

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
    private var seen: Set<ArraySlice<UInt8>> = []

    /// Counts whole sectors.
    mutating func add(_ bytes: [UInt8]) {
        let size = Int(EvidenceReader.sectorSize)
        for start in stride(from: 0, to: bytes.count / size * size, by: size) {
            let sector = bytes[start..<(start + size)]
            switch SectorCharacter(sector) {
            case .structured: structured += 1
            case .repetitive: repetitive += 1
            case .noise:
                // Ciphertext never occurs twice; stale data does. The second block does not depend on the place.
                guard seen.insert(ArraySlice(Array(sector.dropFirst(16).prefix(16)))).inserted else {
                    repetitive += 1
                    continue
                }
                noise += 1
                for byte in sector { histogram[Int(byte)] += 1 }
            }
        }
    }

    /// Are the byte values of all noise sectors together too uneven for real noise?
    ///
    /// Most compressed formats (deflate, JPEG, MP3, bzip2) look like noise sector by sector, but prefer some byte values
    /// a little, which shows in many sectors. The test is chi-square with 255 degrees of freedom: for real noise its mean
    /// is 255 and its standard deviation 22.6; the
    /// chance of more than
    /// 500 is 4 × 10^-18 in the limit, and below 10^-12 for as few as 64 sectors.
    var isUneven: Bool {
        let total = noise * Int(EvidenceReader.sectorSize)
        // Below some hundred sectors the distribution has not reached its limit, nor the test any power.
        guard noise >= 64 else { return false }
        let expected = Double(total) / 256
        let chiSquare = histogram.reduce(0.0) { sum, count in
            let difference = Double(count) - expected
            return sum + difference * difference / expected
        }
        return chiSquare > 500
    }
}
