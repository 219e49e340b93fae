// SPDX-License-Identifier: Apache-2.0

/// A LUKS1 header that is in order, field by field of the specification; no passphrase opens it.
///
/// aes-xts-plain64 with 64 bytes of key, key-slot-1 and key-slot-3 (as the specification counts) active, data at 2 MiB
/// of a file of 3 MiB.
public enum LUKS1Fixture {
    /// Where a keyslot's fields start, by its number from 0.
    public static func slot(_ number: Int) -> Int { 208 + 48 * number }
    /// Sectors from one area of key material to the next; each uses 500 of them.
    static let stride = 504
    /// Sectors before the data.
    static let payload = 4096
    static let active: UInt32 = 0x00AC_71F3
    static let inactive: UInt32 = 0x0000_DEAD

    /// The file.
    public static var image: LUKSTestImage {
        var image = LUKSTestImage(bytes: [UInt8](repeating: 0, count: 1024), size: 3 << 20)
        image.put([0x4C, 0x55, 0x4B, 0x53, 0xBA, 0xBE, 0, 1], at: 0)
        image.put("aes", at: 8)
        image.put("xts-plain64", at: 40)
        image.put("sha256", at: 72)
        image.put(UInt32(payload), at: 104)
        image.put(UInt32(64), at: 108)
        image.put((1...20).map { UInt8($0) }, at: 112)
        image.put((1...32).map { UInt8($0 + 100) }, at: 132)
        image.put(UInt32(1000), at: 164)
        image.put("6c756b73-0000-4000-8000-000000000001", at: 168)
        for number in 0..<8 {
            let isActive = number == 0 || number == 2
            image.put(isActive ? active : inactive, at: slot(number))
            image.put(UInt32(isActive ? 2000 : 0), at: slot(number) + 4)
            if isActive { image.put((1...32).map { UInt8($0 + number) }, at: slot(number) + 8) }
            image.put(UInt32(8 + number * stride), at: slot(number) + 40)
            image.put(UInt32(4000), at: slot(number) + 44)
        }
        return image
    }
}
