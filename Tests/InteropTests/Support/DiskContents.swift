// SPDX-License-Identifier: Apache-2.0

import Foundation
import TestSupport

/// Reproducible contents: every sector starts with its number and a mark, so that no two are alike.
struct DiskContents {
    /// What follows the number.
    enum Texture {
        /// Cannot be compressed.
        case noise
        /// Can be compressed well.
        case plain
    }

    /// Distinguishes what was written first from what was written over it.
    let mark: UInt8
    private let pool: Data

    init(mark: UInt8) {
        self.mark = mark
        var generator = SeededGenerator(seed: UInt64(mark))
        pool = Data((0..<8192).map { _ in UInt8(truncatingIfNeeded: generator.next()) })
    }

    /// Bytes for guest sectors from that at `offset` on; `count` may end within a sector.
    func bytes(at offset: Int, count: Int, _ texture: Texture) -> Data {
        var data = Data(capacity: count + 512)
        for sector in (offset / 512)..<((offset + count + 511) / 512) {
            var number = UInt64(sector) << 8 | UInt64(mark)
            for _ in 0..<8 {
                data.append(UInt8(number >> 56))
                number <<= 8
            }
            switch texture {
            case .noise:
                let start = sector * 37 % (pool.count - 504)
                data.append(pool[start..<(start + 504)])
            case .plain: data.append(Data(repeating: UInt8(truncatingIfNeeded: sector), count: 504))
            }
        }
        return data.prefix(count)
    }

    /// A disk on which clusters of zeros, of plain and of noise sectors take turns.
    func striped(count: Int, clusterSize: Int) -> Data {
        var data = Data(capacity: count)
        for (index, start) in stride(from: 0, to: count, by: clusterSize).enumerated() {
            let length = min(clusterSize, count - start)
            switch index % 4 {
            case 0: data.append(Data(count: length))
            case 2: data.append(bytes(at: start, count: length, .noise))
            default: data.append(bytes(at: start, count: length, .plain))
            }
        }
        return data
    }
}

/// Compares what was read with what it should be.
enum Difference {
    /// Nil when both are the same, else where they differ first, in words.
    static func describe(_ found: Data, _ expected: Data, at offset: Int = 0) -> String? {
        if found == expected { return nil }
        guard found.count == expected.count else { return "\(found.count) bytes instead of \(expected.count)" }
        let place = zip(found, expected).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? 0
        return "byte \(offset + place) of the disk differs (\(found.count) bytes were read at \(offset))"
    }
}
