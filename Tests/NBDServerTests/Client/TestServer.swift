// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Logging
import NBDServer
import TestSupport

extension Server {
    /// A server of some exports that logs nothing, and waits long for its clients unless told otherwise.
    static func serving(_ exports: [Export], _ change: (inout ServerLimits) -> Void = { _ in }) throws -> Server {
        var limits = ServerLimits.patient
        change(&limits)
        return try Server(
            exports: ExportTable(exports), limits: limits, processorCount: 2,
            log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// A server of one device under the empty name.
    static func serving(
        _ device: any BlockDevice, bitmaps: [any DirtyBitmap] = [], _ change: (inout ServerLimits) -> Void = { _ in }
    ) throws -> Server {
        try serving([Export(name: "", description: "", device: device, bitmaps: bitmaps)], change)
    }
}

extension ServerLimits {
    /// Deadlines that no test reaches that runs beside thousands of others, and takes its steps when it is let to.
    static var patient: ServerLimits {
        var limits = ServerLimits()
        limits.negotiation = .seconds(3600)
        limits.goodbye = .seconds(3600)
        limits.stall = .seconds(3600)
        limits.stallWhenWanted = .seconds(3600)
        return limits
    }
}
