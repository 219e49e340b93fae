// SPDX-License-Identifier: Apache-2.0

import Crypto
import Glibc

/// The readable memory of this process, as a core dump or a debugger would see it.
struct ProcessMemory {
    /// A mapping of /proc/self/smaps.
    struct Mapping {
        let range: Range<UInt>
        let name: String
        var isLocked = false
        var isDumped = true
    }

    /// All readable mappings.
    static func mappings() -> [Mapping] {
        var mappings: [Mapping] = []
        for line in text("/proc/self/smaps").split(separator: "\n") {
            let words = line.split(separator: " ")
            let ends = words[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
            if ends.count == 2, words.count >= 5 {
                guard words[1].hasPrefix("r") else {
                    mappings.append(Mapping(range: 0..<0, name: ""))
                    continue
                }
                mappings.append(Mapping(range: ends[0]..<ends[1], name: words.dropFirst(5).joined(separator: " ")))
            } else if words[0] == "VmFlags:", !mappings.isEmpty {
                mappings[mappings.count - 1].isLocked = words.contains("lo")
                mappings[mappings.count - 1].isDumped = !words.contains("dd")
            }
        }
        return mappings.filter { !$0.range.isEmpty }
    }

    /// Where `needles` are found outside locked memory that is left out of dumps.
    ///
    /// A needle is held in such memory itself, and what is read for the search lies in a place that is not searched.
    static func leaks(of needles: [(name: String, bytes: Secret)]) -> [String] {
        let piece = 1 << 20
        let overlap = 64
        guard let buffer = unsafe mmap(nil, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            unsafe buffer != MAP_FAILED
        else { return ["no memory"] }
        defer {
            unsafe memset(buffer, 0, piece)
            unsafe munmap(buffer, piece)
        }
        let own = UInt(bitPattern: buffer)..<(UInt(bitPattern: buffer) + UInt(piece))
        let file = unsafe open("/proc/self/mem", O_RDONLY)
        defer { close(file) }
        var leaks: [String] = []
        for mapping in mappings() where !mapping.isLocked || mapping.isDumped {
            var start = mapping.range.lowerBound
            while start < mapping.range.upperBound {
                if own.contains(start) { start = own.upperBound }
                var end = min(mapping.range.upperBound, start + UInt(piece))
                if start < own.lowerBound { end = min(end, own.lowerBound) }
                guard start < end else { break }
                // Some pages of the kernel cannot be read.
                let count = unsafe pread(file, buffer, Int(end - start), off_t(start))
                if count > 0 {
                    let read = unsafe UnsafeRawBufferPointer(start: buffer, count: count)
                    for needle in needles {
                        for place in unsafe find(needle.bytes, in: read) {
                            let address = String(start + UInt(place), radix: 16)
                            leaks.append("\(needle.name) at \(address) in \(mapping.name)")
                        }
                    }
                }
                start = end == mapping.range.upperBound || end == own.lowerBound ? end : end - UInt(overlap)
            }
        }
        return leaks
    }

    private static func find(_ needle: Secret, in buffer: UnsafeRawBufferPointer) -> [Int] {
        needle.withBytes { needle in
            unsafe needle.withUnsafeBytes { needle in
                var places: [Int] = []
                var position = 0
                while position + needle.count <= buffer.count,
                    let start = unsafe buffer.baseAddress?.advanced(by: position),
                    let found = unsafe memchr(start, Int32(needle[0]), buffer.count - position - needle.count + 1)
                {
                    position = unsafe UnsafeRawPointer(found) - (buffer.baseAddress ?? start)
                    if let wanted = needle.baseAddress, unsafe memcmp(found, wanted, needle.count) == 0 {
                        places.append(position)
                    }
                    position += 1
                }
                return places
            }
        }
    }

    private static func text(_ path: String) -> String {
        let file = unsafe open(path, O_RDONLY)
        defer { close(file) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = unsafe read(file, &piece, piece.count)
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += piece[..<count]
        }
    }
}
