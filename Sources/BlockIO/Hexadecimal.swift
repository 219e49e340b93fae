// SPDX-License-Identifier: Apache-2.0

extension UInt8 {
    /// What a digit of either case, in ASCII, stands for; nil when it is none.
    public var hexadecimalValue: UInt8? {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): self - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): self - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): self - UInt8(ascii: "A") + 10
        default: nil
        }
    }

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
