// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

extension PreSharedKeys {
    /// Reads lines of `user:hexkey`, without copies of a key anywhere but where it is to be.
    struct Parser {
        let path: String
        /// Where the key of each user lies among the keys.
        private(set) var places: [[UInt8]: Range<Int>] = [:]
        private var used = 0
        private var line = 0

        init(path: String) { self.path = path }

        /// - Parameter keys: gets the keys, one after the other; at least half as long as the text.
        /// - Throws: ``TLSError`` for the first line that is wrong.
        mutating func parse(_ text: RawSpan, into keys: inout MutableRawSpan) throws(TLSError) {
            var start = 0
            while start < text.byteCount {
                var end = start
                while end < text.byteCount, text.byte(at: end) != UInt8(ascii: "\n") { end += 1 }
                line += 1
                try parseLine(text.extracting(trim(text, start..<end)), into: &keys)
                start = end + 1
            }
        }

        private func trim(_ text: RawSpan, _ line: Range<Int>) -> Range<Int> {
            var (start, end) = (line.lowerBound, line.upperBound)
            while start < end, isBlank(text.byte(at: start)) { start += 1 }
            while end > start, isBlank(text.byte(at: end - 1)) { end -= 1 }
            return start..<end
        }

        private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0D }

        private mutating func parseLine(_ line: RawSpan, into keys: inout MutableRawSpan) throws(TLSError) {
            guard line.byteCount > 0 else { return }
            let colon = (0..<line.byteCount).last { line.byte(at: $0) == UInt8(ascii: ":") }
            let isMarked = line.byte(at: 0) == UInt8(ascii: "#")
            guard let colon else {
                if isMarked { return }
                throw fault("is not user:hexkey")
            }
            var name = [UInt8](copying: line.extracting(0..<colon))
            if isMarked {
                // A comment, unless it reads as a name in hexadecimal digits.
                guard let decoded = decodedName(name.dropFirst()) else { return }
                name = decoded
            }
            guard !name.isEmpty, name.count <= maximumNameLength, !name.contains(0) else {
                throw fault("has a user name of \(name.count) bytes; 1 to \(maximumNameLength) are allowed, none zero")
            }
            guard places[name] == nil else { throw fault("names a user that has a key already") }
            places[name] = try decodeKey(line.extracting(colon + 1..<line.byteCount), into: &keys)
        }

        private mutating func decodeKey(
            _ digits: RawSpan, into keys: inout MutableRawSpan
        ) throws(TLSError) -> Range<Int> {
            guard digits.byteCount % 2 == 0 else { throw fault("has a key with an odd number of digits") }
            let count = digits.byteCount / 2
            guard keyLengths.contains(count) else {
                throw fault(
                    "has a key of \(count) bytes; \(keyLengths.lowerBound) to \(keyLengths.upperBound) are allowed")
            }
            for index in 0..<count {
                guard let high = digits.byte(at: 2 * index).hexadecimalValue,
                    let low = digits.byte(at: 2 * index + 1).hexadecimalValue
                else {
                    throw fault("has a key with something else than hexadecimal digits in it")
                }
                keys.storeBytes(of: high << 4 | low, toByteOffset: used + index, as: UInt8.self)
            }
            defer { used += count }
            return used..<used + count
        }

        private func decodedName(_ digits: ArraySlice<UInt8>) -> [UInt8]? {
            guard digits.count % 2 == 0, !digits.isEmpty else { return nil }
            var name: [UInt8] = []
            var rest = digits
            while let high = rest.popFirst(), let low = rest.popFirst() {
                guard let high = high.hexadecimalValue, let low = low.hexadecimalValue else { return nil }
                name.append(high << 4 | low)
            }
            return name
        }

        /// The line itself is not shown: it may hold a key.
        private func fault(_ what: String) -> TLSError {
            TLSError("\(path), line \(line), \(what); psktool -u USER -p \(path) writes such lines")
        }
    }
}
