// SPDX-License-Identifier: Apache-2.0

public import BlockIO

extension LUKSVolume {
    /// Reads the LUKS header at the start of a device, of either version.
    ///
    /// - Parameters:
    ///   - header: a LUKS device or file, a header file, or the part of an image that holds a header.
    ///   - dataSize: the size in bytes of the device that holds the data, when it is known; of `header` itself when
    ///     header and data are in one place. Nil: the data is not compared with anything.
    ///   - isDetached: the data is elsewhere, so it may start anywhere in its device.
    /// - Returns: nil when there is no LUKS header: none at the start, and no second copy of one behind it.
    /// - Throws: ``FormatError`` when the header is damaged, of an unknown version or marked as unusable.
    public static func read(
        from header: any BlockDevice, dataSize: UInt64?, isDetached: Bool
    ) throws(FormatError) -> LUKSVolume? {
        let device = header.alignment == 1 ? header : AlignedDevice(header)
        let surroundings = LUKSSurroundings(headerDeviceSize: device.size, dataSize: dataSize, isDetached: isDetached)
        do throws(LUKSFault) {
            if device.size < 8,
                (try? device.read(count: Int(device.size), at: 0))?.starts(with: LUKSMagic.primary) == true
            {
                throw LUKSFault(
                    "LUKS header", at: 0, found: "\(device.size) bytes", allowed: "at least 592",
                    advice: LUKS1Header.headerCutAdvice)
            }
            switch LUKSMagic(device) {
            case .version(1): return try LUKS1Header(device, surroundings).volume
            case .unfinishedReencryption: throw reencryptionOfLUKS1
            case .version, nil: break
            }
        } catch { throw error.error }
        return try LUKS2Header(device, surroundings)?.volume
    }

    private static var reencryptionOfLUKS1: LUKSFault {
        LUKSFault(
            "LUKS1 header: magic", at: 0, found: "the mark of a reencryption that has not ended",
            allowed: "that of a LUKS volume",
            advice:
                "finish it with cryptsetup reencrypt (before version 2.5: cryptsetup-reencrypt), which made this mark")
    }
}

/// What a header is compared with.
struct LUKSSurroundings {
    /// The device or window that the header starts, in bytes.
    let headerDeviceSize: UInt64
    /// The device that holds the data, in bytes; nil: not known.
    let dataSize: UInt64?
    /// The data is not behind the header.
    let isDetached: Bool
}

/// The first eight bytes: who this is.
enum LUKSMagic: Equatable {
    /// "LUKS\xba\xbe" and a version.
    case version(UInt16)
    /// "LUKS\xde\xad" and version 1: an offline reencryption has put it there until it is done.
    case unfinishedReencryption

    static let primary: [UInt8] = [0x4C, 0x55, 0x4B, 0x53, 0xBA, 0xBE]
    static let secondary: [UInt8] = [0x53, 0x4B, 0x55, 0x4C, 0xBA, 0xBE]
    private static let reencryption: [UInt8] = [0x4C, 0x55, 0x4B, 0x53, 0xDE, 0xAD]

    /// Nil: none of these, or not readable, or no eight bytes.
    init?(_ device: any BlockDevice) {
        guard device.size >= 8 else { return nil }
        // A start that cannot be read may have a second copy behind it: that is for the reader of LUKS2 to say.
        guard let bytes = try? device.read(count: 8, at: 0) else { return nil }
        let version = UInt16(bytes[6]) << 8 | UInt16(bytes[7])
        if bytes.starts(with: Self.primary) {
            self = .version(version)
        } else if bytes.starts(with: Self.reencryption), version == 1 {
            self = .unfinishedReencryption
        } else {
            return nil
        }
    }
}
