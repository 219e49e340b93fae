// SPDX-License-Identifier: Apache-2.0

import TestSupport

/// Which reads to try on a disk.
struct ReadPlan {
    let size: Int
    let clusterSize: Int
    let l2Coverage: Int

    init(size: Int, recipe: ImageRecipe) {
        self.size = size
        self.clusterSize = recipe.clusterSize
        self.l2Coverage = recipe.l2Coverage
    }

    /// The whole disk in requests of `count` bytes.
    func whole(_ count: Int) -> [LibNBDClient.Request] {
        stride(from: 0, to: size, by: count).map { LibNBDClient.Request(offset: $0, count: min(count, size - $0)) }
    }

    /// Requests that start or end at, just before and just after the borders of sectors, clusters and L2 tables.
    var borders: [LibNBDClient.Request] {
        var places: Set<Int> = [0, size]
        for unit in [512, clusterSize, l2Coverage] {
            let last = size / unit
            for index in [1, 2, 3, 7, last / 2, last - 1, last] where index > 0 { places.insert(index * unit) }
        }
        var requests: Set<LibNBDClient.Request> = []
        for place in places {
            for delta in -1...1 {
                add(place + delta, 1, &requests)
                add(place + delta, 513, &requests)
                add(place + delta, clusterSize + 1, &requests)
                add(place + delta - clusterSize, 2 * clusterSize, &requests)
            }
        }
        return requests.sorted { ($0.offset, $0.count) < ($1.offset, $1.count) }
    }

    private func add(_ offset: Int, _ count: Int, _ requests: inout Set<LibNBDClient.Request>) {
        let start = max(0, offset)
        let end = min(size, offset + count)
        if start < end { requests.insert(LibNBDClient.Request(offset: start, count: end - start)) }
    }

    /// Requests of any offset and length, most of them short.
    func random(_ count: Int, seed: UInt64) -> [LibNBDClient.Request] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { index in
            let offset = generator.number(below: size)
            let limits = [700, 3 * clusterSize, 1 << 16, index % 20 == 0 ? 4 << 20 : 1 << 18]
            let limit = min(size - offset, limits[index % limits.count])
            return LibNBDClient.Request(offset: offset, count: 1 + generator.number(below: limit))
        }
    }
}
