// SPDX-License-Identifier: Apache-2.0

/// Every rule that a request must satisfy, in one place.
///
/// Source: NBD specification, "Transmission phase", "Request types", "Error values".
enum RequestRules {
    /// What is to be done with a request.
    enum Verdict: Equatable {
        /// Read `length` bytes at `offset`; they lie within the export.
        case read
        /// Nothing is to be done, successfully.
        case succeed
        /// Answer with an error after skipping this many bytes of payload.
        case refuse(NBDProtocol.ErrorNumber, payload: UInt32)
        /// The client says good-bye.
        case disconnect
        /// Nothing sensible can follow; the reason is for the log.
        case close(reason: String)
    }

    /// The longest read that is served and the longest payload that is skipped, in bytes. Twice the advertised maximum:
    /// some clients do not look at it.
    static let maximumLength: UInt32 = 64 << 20

    /// Judges a request to an export of `size` bytes.
    static func judge(_ request: NBDRequest, size: UInt64) -> Verdict {
        let command = NBDProtocol.Command(rawValue: request.type)
        if command == .write {
            guard request.length <= maximumLength else {
                return .close(reason: "sent a write of \(request.length) bytes to a read-only export")
            }
            return .refuse(.notPermitted, payload: request.length)
        }
        if command == .disconnect { return .disconnect }
        // No flag was offered: neither FUA nor any that needs structured replies.
        guard request.flags == 0 else { return .refuse(.invalid, payload: 0) }
        switch command {
        case .read:
            let (end, overflow) = request.offset.addingReportingOverflow(UInt64(request.length))
            guard !overflow, end <= size, request.length <= maximumLength else {
                return .refuse(.invalid, payload: 0)
            }
            return request.length == 0 ? .succeed : .read
        case .flush:
            return request.offset == 0 && request.length == 0 ? .succeed : .refuse(.invalid, payload: 0)
        case .trim, .writeZeroes:
            return .refuse(.notPermitted, payload: 0)
        case nil, .write, .disconnect:
            return .refuse(.invalid, payload: 0)
        }
    }
}
