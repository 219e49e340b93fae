// SPDX-License-Identifier: Apache-2.0

/// Somebody who wants to know what clients do with an export. All is called on any thread, which waits for it, and is within the
/// export; places are in bytes.
public protocol ExportObserver: Sendable {
    /// These bytes have been read for a client.
    func read(_ bytes: RawSpan, at offset: UInt64)
    /// Somewhere in these bytes something could not be read.
    func failed(_ offset: UInt64, _ count: Int)
    /// A client has been told that these bytes are zeros, so that there is no need to read them.
    func toldZeros(_ range: Range<UInt64>)
    /// A client has changed these bytes, or made them zeros.
    func wrote(_ range: Range<UInt64>)
}

extension ExportObserver {
    /// Does nothing.
    public func read(_ bytes: RawSpan, at offset: UInt64) {}
    /// Does nothing.
    public func failed(_ offset: UInt64, _ count: Int) {}
    /// Does nothing.
    public func toldZeros(_ range: Range<UInt64>) {}
    /// Does nothing.
    public func wrote(_ range: Range<UInt64>) {}
}
