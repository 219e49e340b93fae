// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Logging
import NBDServer
import TestSupport

extension Server {
    /// A server of some exports that logs nothing.
    static func serving(_ exports: [Export], _ change: (inout ServerLimits) -> Void = { _ in }) throws -> Server {
        var limits = ServerLimits()
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
