// SPDX-License-Identifier: Apache-2.0

import BlockIO

extension AuditedLayer {
    /// What ``MappedCensus`` found in an image of qcow version 1, which has no reference counts: whether clusters overlap
    /// cannot be told from its tables alone.
    public init(name: String, _ header: QcowHeader, _ census: MappedCensus) {
        self.init(name: name, format: ImageFormat.qcow.rawValue, isEncrypted: header.encryption != .none)
        storesData = census.allocatedCount > 0
        compressedClusterCount = census.compressedCount
        if let fault = census.firstFault {
            faults.note(.invalidEntry, at: nil, count: census.faultCount, Sentence(fault))
        }
        if !census.isComplete { incompleteness = "the image has more tables than an audit reads" }
    }
}
