// SPDX-License-Identifier: Apache-2.0

extension UInt8 {
    /// Two digits, without a prefix.
    public func hexadecimal(uppercase: Bool = false) -> String {
        (self < 16 ? "0" : "") + String(self, radix: 16, uppercase: uppercase)
    }
}

extension Sequence<UInt8> {
    /// Two digits for each byte, without a prefix.
    public func hexadecimal(uppercase: Bool = false) -> String {
        map { $0.hexadecimal(uppercase: uppercase) }.joined()
    }
}
