// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats

/// Rebuilds the reference counts of an image that was not closed properly before it is written to, when that is wanted.
struct ImageRepair {
    let isWanted: Bool
    let log: OpeningLog

    /// - Parameters:
    ///   - file: writable; holds `header`.
    ///   - dataFile: holds the clusters when another file does.
    ///   - name: what messages begin with, as `ImageChain.Link.shown` has it.
    /// - Returns: the header as the file has it afterwards.
    /// - Throws: ``FormatError`` of a ``Qcow2Repair``.
    func header(
        of file: any GrowableDevice, _ header: Qcow2Header, dataFile: (any BlockDevice)?, name: String
    ) throws(FormatError) -> Qcow2Header {
        guard isWanted, let repair = try Qcow2Repair(file: file, header: header, dataFileSize: dataFile?.size)
        else { return header }
        log.notice("\(name)\(repair)")
        guard let repaired = try Qcow2Header(device: file) else {
            throw .notRecognised("the image has lost its header")
        }
        return repaired
    }
}
