// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import FoundationEssentials
import ImageFormats

/// What `nbdecrypt audit` says of an image.
struct AuditReport: Report {
    /// What it comes to.
    enum Verdict: String, Encodable {
        case clean, leaks, damaged
        /// No damage was found, but not all was examined.
        case incomplete
    }

    struct Places: Encodable {
        let count: UInt64
        /// The first of them, in bytes from the start of the file.
        let offsets: [UInt64]
    }

    struct Fault: Encodable {
        let kind: String
        /// In bytes from the start of the file.
        let offset: UInt64?
        let description: String
    }

    struct Layer: Encodable {
        let name: String
        let format: String
        let isEncrypted: Bool
        let isComplete: Bool
        /// Why it is not complete.
        let incompleteness: String?
        let faultCount: UInt64
        /// By kind.
        let faultCounts: [String: UInt64]
        /// The first of them.
        let faults: [Fault]
        /// Clusters that are marked as used, but that nothing uses.
        let lostClusters: Places
        let compressedClusters: Places
        let notes: [String]
    }

    struct Leak: Encodable {
        let kind: String
        /// 0 is the top.
        let layer: Int
        let clusterCount: UInt64?
        /// In bytes from the start of the file.
        let offsets: [UInt64]
        let description: String
    }

    let verdict: Verdict
    let layers: [Layer]
    /// LUKS containers on the disk, which can be read without a key.
    let containers: [Layer]
    /// What of the disk could not be looked into.
    let unseen: [String]
    let leaks: [Leak]

    /// A report about a chain of layers, the top first, and about the disk that they make.
    init(_ audit: ImageAudit) {
        let (audited, disk) = (audit.layers, audit.disk)
        layers = audited.map(Layer.init)
        containers = disk.containers.map(Layer.init)
        unseen = disk.unseen.map(\.worded)
        // A container is no layer: that there is something beside it is no leak.
        let found = AuditLeak.all(of: audited) + disk.containers.flatMap { AuditLeak.all(of: [$0]) }
        leaks = found.map { leak in
            Leak(
                kind: leak.kind.rawValue, layer: leak.layer, clusterCount: leak.clusterCount, offsets: leak.places,
                description: leak.description)
        }
        let examined = layers + containers
        verdict =
            if examined.contains(where: { $0.faultCount > 0 }) {
                .damaged
            } else if !disk.unseen.isEmpty || examined.contains(where: { !$0.isComplete }) {
                .incomplete
            } else if !leaks.isEmpty { .leaks } else { .clean }
    }

    /// Were the files of the image examined in full, and is it of the disk in them alone that not all could be seen?
    var isOnlyDiskUnseen: Bool { verdict == .incomplete && layers.allSatisfy(\.isComplete) }

    /// How the program ends; nil when all is well.
    var failure: Failure? {
        switch verdict {
        case .clean: nil
        case .leaks: Failure(.leaks, leaks.map(\.description).joined(separator: "\nnbdecrypt: "))
        case .damaged:
            (layers + containers).first { $0.faultCount > 0 }.map { layer in
                let first = layer.faults.first?.description ?? ""
                return Failure(.badImage, "\(layer.name): the image is damaged: \(first)")
            }
        case .incomplete:
            notExamined.first.map { Failure(.badImage, $0) }
        }
    }

    /// Sentences about what was not examined, and why.
    var notExamined: [String] {
        (layers + containers).compactMap { layer in
            layer.incompleteness.map { "\(layer.name): not all was examined: \($0)" }
        } + unseen.map { "\(layers.first?.name ?? ""): not all was examined: \($0)" }
    }

    /// The report for people.
    var text: String {
        let lines =
            layers.flatMap(\.lines) + containers.flatMap(\.lines) + unseen.map { ("not seen", $0) }
            + leaks.map { ("leak", $0.description) } + [("verdict", verdict.rawValue)]
        return Self.table(lines).joined(separator: "\n")
    }
}

extension AuditReport.Layer {
    /// So many faults are shown to people; JSON has more.
    private static let shownFaults = 20

    fileprivate init(_ layer: AuditedLayer) {
        name = layer.name
        format = layer.format
        isEncrypted = layer.isEncrypted
        isComplete = layer.incompleteness == nil
        incompleteness = layer.incompleteness?.worded
        faultCount = layer.faults.total
        faultCounts = Dictionary(
            layer.faults.counts.map { ($0.key.rawValue, $0.value) }, uniquingKeysWith: { first, _ in first })
        faults = layer.faults.listed.map { fault in
            AuditReport.Fault(kind: fault.kind.rawValue, offset: fault.offset, description: fault.worded)
        }
        lostClusters = AuditReport.Places(count: layer.lostClusterCount, offsets: layer.lostClusterPlaces)
        compressedClusters = AuditReport.Places(
            count: layer.compressedClusterCount, offsets: layer.compressedClusterPlaces)
        notes = layer.notes
    }

    fileprivate var lines: [(String, String)] {
        var lines = [
            ("image", name), ("format", "\(format), \(isEncrypted ? "encrypted" : "not encrypted")"),
            ("damage", faultCount == 0 ? "none\(isComplete ? "" : " found")" : CountText.of(faultCount, "fault")),
        ]
        lines += faults.prefix(Self.shownFaults).map { ("fault", $0.description) }
        if faultCount > UInt64(Self.shownFaults) {
            lines.append(("fault", "… and \(faultCount - UInt64(Self.shownFaults)) more; --json lists up to 100"))
        }
        if lostClusters.count > 0 {
            lines.append(
                (
                    "lost clusters",
                    "\(lostClusters.count) marked as used, but used by nothing: wasted space, no damage"
                ))
        }
        if compressedClusters.count > 0 { lines.append(("compressed", "\(compressedClusters.count) clusters")) }
        if let incompleteness { lines.append(("not complete", incompleteness)) }
        return lines + notes.map { ("note", $0) }
    }
}
