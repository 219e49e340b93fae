// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack

/// Many images on their way, some at the same time; one that fails does not stop the others.
struct MigrationBatch: Sendable {
    /// The exit status is how many have failed, up to this: larger ones mean something else.
    static let mostCounted = 63

    let runner: MigrationRunner
    let jobs: [MigrationJob]
    let record: MigrationRecord
    let width: Int

    /// Copies all that are not complete.
    /// - Throws: ``Failure`` when there is no secret for the new images.
    func run() async throws -> MigrationBatchReport {
        let command = runner.command
        // Once for all of them; nobody is asked in the middle of the night.
        let secret =
            command.to?.isEncrypted == true
            ? try command.newSecret.read(for: "the new images", runner.termination) : nil
        var results: [MigrationBatchReport.Image] = []
        await withTaskGroup(of: (Int, MigrationBatchReport.Image).self) { group in
            var finished: [Int: MigrationBatchReport.Image] = [:]
            for (index, job) in jobs.enumerated() {
                if index >= width, let (done, image) = await group.next() { finished[done] = image }
                group.addTask { (index, await result(of: job, secret)) }
            }
            for await (done, image) in group { finished[done] = image }
            results = jobs.indices.compactMap { finished[$0] }
        }
        return MigrationBatchReport(images: results)
    }

    private func result(of job: MigrationJob, _ secret: NamedSecret?) async -> MigrationBatchReport.Image {
        if let entry = record.complete(job) {
            if entry.state != .complete { try? record.add(.complete, job, digest: entry.digest) }
            return .init(job, .before, digest: entry.digest)
        }
        do {
            let hasBegun = record.hasBegun(job)
            // What is there though no run has begun it is somebody else's, and is never taken for what a run has left.
            if !Process.exists(NewFile.partialPath(job.new)) { try record.add(.begun, job) }
            let report = try await runner.run(
                job, .none, replacesPartial: hasBegun,
                isReady: { [record] file, digest throws(Failure) in
                    try record.add(.ready, job, digest: digest.description, file: file)
                }
            ) { _ in
                guard let secret else { throw Failure(.wrongPassphrase, "\(job.new): there is no secret for it") }
                return secret
            }
            guard report.isComplete else { throw report.incompleteness }
            try record.add(.complete, job, digest: report.digest)
            Process.printError("\(job.source.name): copied to \(job.new)")
            return .init(job, .copied, report: report)
        } catch {
            let failure = error as? Failure ?? (error as? OpeningError).map { Failure($0) }
            let reason = failure?.description ?? "\(error)"
            // What is there later is somebody else's. The failure is told in any case.
            if !Process.exists(NewFile.partialPath(job.new)) { try? record.add(.failed, job) }
            Process.printError("error: \(reason)")
            return .init(job, .failed, reason: reason)
        }
    }
}
