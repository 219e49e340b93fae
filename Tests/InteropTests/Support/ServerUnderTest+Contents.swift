// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

extension ServerUnderTest {
    /// Reads the whole disk through one connection and compares it with `disk`.
    func expectContents(_ disk: Data, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let client = try LibNBDClient(uri)
        try #require(client.size == disk.count, sourceLocation: sourceLocation)
        for start in stride(from: 0, to: disk.count, by: 32 << 20) {
            let count = min(32 << 20, disk.count - start)
            let difference = Difference.describe(
                try client.read(count, at: start), disk[start..<(start + count)], at: start)
            #expect(difference == nil, sourceLocation: sourceLocation)
        }
    }
}
