// SPDX-License-Identifier: Apache-2.0

import BlockIO

extension DiskCopy {
    /// Writes blocks to the new disk, and tells of them.
    struct Writer: Sendable {
        let target: any BlockDevice
        let options: Options
        let progress: CopyProgress

        func writeZeros(_ range: ByteRange) throws(Failure) {
            do { try target.zero(range, []) } catch { throw .writing(range.offset, error) }
            progress.add(range, .zeros)
        }

        /// Writes the bytes of a block, but for zeros where the new disk has them. Afterwards the bytes are unspecified.
        ///
        /// - Parameter lost: what of it could not be read, in order.
        func write(_ block: inout MutableRawSpan, at offset: UInt64, lost: [ByteRange]) throws(Failure) {
            for range in lost { progress.add(range, .unreadable) }
            var position = 0
            while position < block.byteCount {
                var kind: Bool?
                let end = block.bytes.endOfUnits(from: position, unit: options.zeroUnit, areZero: &kind)
                let isZero = kind ?? true
                let place = offset + UInt64(position)
                if !isZero || !options.isTargetZero {
                    do throws(BlockError) {
                        try block.withSlice(position..<end) { (part) throws(BlockError) in
                            try target.write(&part, at: place, [])
                        }
                    } catch { throw .writing(place, error) }
                }
                tell(place..<offset + UInt64(end), isZero ? .zeros : .data, but: lost)
                position = end
            }
        }

        /// What is lost has been told of.
        private func tell(_ range: Range<UInt64>, _ state: CopyProgress.State, but lost: [ByteRange]) {
            var position = range.lowerBound
            for hole in lost where hole.end > position && hole.offset < range.upperBound {
                add(position..<max(position, hole.offset), state)
                position = min(hole.end, range.upperBound)
            }
            add(position..<range.upperBound, state)
        }

        private func add(_ range: Range<UInt64>, _ state: CopyProgress.State) {
            guard !range.isEmpty, let part = ByteRange(offset: range.lowerBound, length: UInt64(range.count)) else {
                return
            }
            progress.add(part, state)
        }
    }
}
