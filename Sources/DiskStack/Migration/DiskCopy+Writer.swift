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
                let run = Self.run(in: block.bytes, from: position, unit: options.zeroUnit)
                let place = offset + UInt64(position)
                if !run.isZero || !options.isTargetZero {
                    do throws(BlockError) {
                        try block.withSlice(run.range) { (part) throws(BlockError) in
                            try target.write(&part, at: place, [])
                        }
                    } catch { throw .writing(place, error) }
                }
                tell(place..<place + UInt64(run.range.count), run.isZero ? .zeros : .data, but: lost)
                position = run.range.upperBound
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

        /// Units of zeros from `start` on, or of something else.
        private static func run(in bytes: RawSpan, from start: Int, unit: Int) -> (range: Range<Int>, isZero: Bool) {
            var position = start
            var kind: Bool?
            while position < bytes.byteCount {
                let end = min(position + unit, bytes.byteCount)
                let isZero = bytes.extracting(position..<end).isZero
                guard kind ?? isZero == isZero else { break }
                kind = isZero
                position = end
            }
            return (start..<position, kind ?? true)
        }
    }
}
