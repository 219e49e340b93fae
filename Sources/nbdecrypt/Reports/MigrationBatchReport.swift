// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// What has become of the images of a list.
struct MigrationBatchReport: Report {
    /// One of them.
    struct Image: Encodable, Sendable {
        enum State: String, Encodable, Sendable {
            case copied
            /// By a run before: it was not read again.
            case before
            case failed
        }

        let old: String
        let new: String
        let state: State
        /// Of the disk, in bytes.
        let size: UInt64?
        /// Bytes that were copied.
        let data: UInt64?
        /// Of the disk.
        let digest: String?
        /// Why it has failed.
        let reason: String?

        init(
            _ job: MigrationJob, _ state: State, report: MigrationReport? = nil, digest: String? = nil,
            reason: String? = nil
        ) {
            old = job.source.name
            new = job.new
            self.state = state
            size = report?.size
            data = report?.data
            self.digest = report?.digest ?? digest
            self.reason = reason
        }
    }

    let images: [Image]
    let failureCount: Int

    init(images: [Image]) {
        self.images = images
        failureCount = images.count { $0.state == .failed }
    }

    /// A line an image, in columns.
    var text: String {
        let rows = images.map { image -> [String] in
            let size = image.size.map(ByteText.short) ?? "-"
            let data = image.data.map(ByteText.short) ?? "-"
            return [image.state.rawValue, size, data, image.old, image.reason == nil ? image.new : "-"]
        }
        let table = [["STATE", "SIZE", "DATA", "OLD", "NEW"]] + rows
        let widths = (0..<4).map { column in table.map { $0[column].count }.max() ?? 0 }
        let lines = table.map { row in
            zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }.joined(separator: "  ") + "  "
                + row[4]
        }
        let copied = images.count { $0.state == .copied }
        let before = images.count { $0.state == .before }
        return (lines + ["\(copied) copied, \(before) complete before, \(failureCount) failed"]).joined(separator: "\n")
    }
}
