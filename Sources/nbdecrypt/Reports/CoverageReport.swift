// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import NBDServer

/// What of the exports clients have been given.
struct CoverageReport: Report {
    /// One of them.
    struct Disk: Encodable {
        /// As clients ask for it.
        let export: String
        /// In bytes.
        let size: UInt64
        let isComplete: Bool
        /// Bytes that were read.
        let read: UInt64
        /// Bytes that were not read because clients were told that they are zeros.
        let zeros: UInt64
        /// Bytes that were neither.
        let missing: UInt64
        let missingRangeCount: Int
        /// The first of them.
        let missingRanges: [ReportedRange]
        /// What could not be read and was not read by another attempt.
        let unreadableRanges: [ReportedRange]
        /// Of the whole disk; nil when none is wanted, or there is none.
        let digest: String?
        /// Bytes that are hashed at once.
        let digestBlockSize: UInt64?
        /// Why there is none though one is wanted.
        let digestOmission: String?
    }

    let exports: [Disk]

    /// How many ranges are told at most.
    private static let rangeLimit = 1000

    /// What of a digest is not known yet is read now, of the exports that clients have read all of.
    ///
    /// - Parameter exports: those without a ``Coverage`` are left out.
    init(_ exports: [Export]) {
        self.exports = exports.compactMap { export in export.observer(Coverage.self).map { Self.disk(export, $0) } }
    }

    private static func disk(_ export: Export, _ coverage: Coverage) -> Disk {
        let (given, read, failed) = coverage.sets
        let missing = given.gaps(limit: rangeLimit)
        let digest = export.observer(ReadDigest.self)
        var (total, omission): (DiskDigest?, String?)
        if !given.isComplete {
            omission = digest.map { _ in "not all of the disk was read" }
        } else {
            do throws(BlockError) { total = try digest?.total() } catch {
                omission = "what came in another order could not be read again: \(error)"
            }
        }
        return Disk(
            export: export.name, size: given.size, isComplete: given.isComplete, read: read.count,
            zeros: given.count - read.count, missing: given.size - given.count, missingRangeCount: given.gapCount,
            missingRanges: missing.map(ReportedRange.init),
            unreadableRanges: missing.filter { failed.contains($0.offset) }.map(ReportedRange.init),
            digest: total?.description, digestBlockSize: total.flatMap { _ in digest?.blockSize },
            digestOmission: omission)
    }

    /// Has somebody who wanted all of the default export got it, and all of each other one that was read?
    var isComplete: Bool { exports.first?.isComplete ?? true && exports.allSatisfy { $0.isComplete || $0.read == 0 } }

    /// Sentences about what clients have read.
    ///
    /// - Parameter isAsked: somebody wants to know of the default export, even if nobody has read of it.
    func lines(isAsked: Bool) -> [String] {
        exports.enumerated().filter { $0 == 0 && isAsked || $1.read + $1.zeros > 0 }.flatMap(\.element.sentences)
    }

    var text: String { lines(isAsked: true).joined(separator: "\n") }
}

extension Export {
    fileprivate func observer<Observer>(_: Observer.Type) -> Observer? {
        observers.lazy.compactMap { $0 as? Observer }.first
    }
}

extension CoverageReport.Disk {
    /// For the log.
    var sentences: [String] {
        if let digest, let digestBlockSize {
            return [
                sentence,
                "\(name)SHA-256 \(digest) (the hash of the hashes of blocks of \(ByteText.short(digestBlockSize)))",
            ]
        }
        return [sentence] + (digestOmission.map { ["\(name)no SHA-256: \($0)"] } ?? [])
    }

    private var name: String { export.isEmpty ? "" : "\(export): " }

    private var sentence: String {
        let bytes = "\(name)\(Self.grouped(size)) bytes"
        guard !isComplete else { return "100 % of \(bytes) read, \(ByteText.short(read)) of them data" }
        // Never 100.
        let percent = size == 0 ? 0 : min(99, Int(Double(size - missing) / Double(size) * 100))
        let first = missingRanges.first.map { " (first at \($0.offset), \($0.length) bytes)" } ?? ""
        let ranges = CountText.of(missingRangeCount, "range")
        let unreadable = unreadableRanges.isEmpty ? "" : "; \(unreadableRanges.count) of them could not be read"
        return "incomplete: \(percent) % of \(bytes) read, \(ranges) never read\(first)\(unreadable)"
    }

    /// With a comma between thousands.
    private static func grouped(_ number: UInt64) -> String {
        var digits = String(number)
        var place = digits.count - 3
        while place > 0 {
            digits.insert(",", at: digits.index(digits.startIndex, offsetBy: place))
            place -= 3
        }
        return digits
    }
}
