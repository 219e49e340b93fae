// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// What ``DiskCopy`` would have to read of a disk, as far as the disk knows without being read.
public struct CopyEstimate: Sendable {
    /// Of the disk, in bytes.
    public let size: UInt64
    /// Bytes that are known to be zeros.
    public private(set) var zeros: UInt64 = 0
    /// Bytes that are read: of whole blocks, some of which is not known to be zeros.
    public private(set) var read: UInt64 = 0
    /// What a new image stores at most that allocates units of a size: bytes of whole units. What turns out to be zeros when it is
    /// read takes none.
    public private(set) var allocated: UInt64 = 0
    /// False when the disk has more runs than are looked at; all of the rest counts as data.
    public private(set) var isExact = true

    /// How many runs of data are looked at: some seconds.
    private static let maximumRuns = 1 << 21

    /// - Parameters:
    ///   - device: the disk, of which nothing is read.
    ///   - unit: what the new image allocates at once, in bytes.
    ///   - isLayer: the new image stores what the uppermost layer of the disk stores itself, and no more.
    public init(of device: any BlockDevice, unit: UInt64, isLayer: Bool = false) {
        size = device.size
        let blocks = DiskBlocks(diskSize: size)
        var (blockEnd, unitEnd, position) = (UInt64(0), UInt64(0), UInt64(0))
        var runs = 0
        while position < size {
            let start = device.endOfRun(at: position, areZeros: true)
            zeros += start - position
            guard start < size else { return }
            runs += 1
            isExact = runs <= Self.maximumRuns
            position = isExact ? device.endOfRun(at: start, areZeros: false) : size
            read += Self.take(start..<position, units: blocks.blockSize, &blockEnd, size)
            guard isLayer, isExact else {
                allocated += Self.take(start..<position, units: unit, &unitEnd, size)
                continue
            }
            device.forEachStoredRun(in: start..<position) {
                allocated += Self.take($0, units: unit, &unitEnd, size)
            }
        }
    }

    /// Bytes of the units that a run touches, from that on which no other run has touched.
    private static func take(
        _ run: Range<UInt64>, units unit: UInt64, _ end: inout UInt64, _ size: UInt64
    ) -> UInt64 {
        let start = max(end, run.lowerBound / unit * unit)
        end = max(end, min(size, run.upperBound.units(of: unit) * unit))
        return end > start ? end - start : 0
    }
}

extension BlockDevice {
    /// Of bytes that are not known to be zeros, those that the uppermost layer stores, and those of which nobody can tell.
    fileprivate func forEachStoredRun(in range: Range<UInt64>, _ body: (Range<UInt64>) -> Void) {
        var position = range.lowerBound
        while position < range.upperBound {
            let extent = try? extent(at: position, limit: range.upperBound - position)
            let end = extent.map { position + $0.length } ?? min(range.upperBound, (position / 65536 + 1) * 65536)
            if extent?.depth ?? 1 == 1 { body(position..<end) }
            position = end
        }
    }
}
