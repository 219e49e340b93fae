// SPDX-License-Identifier: Apache-2.0

/// Numbers of bytes for people.
enum ByteText {
    private static let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]

    /// With a unit that keeps it short, e.g. "12.1 GiB"; below 1 KiB "512 bytes".
    static func short(_ bytes: UInt64) -> String {
        guard bytes >= 1024 else { return "\(bytes) bytes" }
        var value = Double(bytes) / 1024
        var unit = 0
        while value >= 1024, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10) \(units[unit])"
    }

    /// The same in brackets, for behind the number itself; nothing below 1 KiB.
    static func rounded(_ bytes: UInt64) -> String { bytes < 1024 ? "" : " (\(short(bytes)))" }
}
