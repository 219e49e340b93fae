// SPDX-License-Identifier: Apache-2.0

import BlockIO
@testable import Crypto
import TestSupport

/// Both copies of a LUKS2 header: a byte of switches, the 512 bytes of fields of each copy, and JSON, which a NUL byte
/// separates into that of the primary copy and that of the secondary one.
///
/// Switches: 1, 2: put the right checksum into the primary, secondary copy; 4: the data is elsewhere; 8: the secondary
/// copy is where the size in it says, else where the primary copy says; 16: the volume ends behind the header.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzLUKS2Header(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard input.count >= 1025 else { return 0 }
    let switches = input[0]
    let texts = input[1025...].split(separator: 0, maxSplits: 1)
    let first = texts.first.map { Array($0) } ?? []
    let second = texts.count > 1 ? Array(texts[1].prefix { $0 != 0 }) : first
    var primary = copy(fields: input[1..<513], json: first)
    var secondary = copy(fields: input[513..<1025], json: second)
    if switches & 1 != 0 { fixChecksum(&primary) }
    if switches & 2 != 0 { fixChecksum(&secondary) }
    let place = switches & 8 != 0 ? secondary.count : primary.count
    var bytes = primary
    if bytes.count < place { bytes += [UInt8](repeating: 0, count: place - bytes.count) }
    bytes.replaceSubrange(min(place, bytes.count)..., with: secondary)

    let size = UInt64(bytes.count) + (switches & 16 != 0 ? 0 : 64 << 20)
    let device = LUKSHeaderDevice(bytes, size: size)
    let isDetached = switches & 4 != 0
    guard let volume = try? LUKSVolume.read(from: device, dataSize: isDetached ? nil : size, isDetached: isDetached)
    else { return 0 }
    guard let copy = volume.copy else {
        precondition(volume.version == 1)
        return 0
    }
    precondition(volume.warnings.count <= 1)
    // Which copy is used, by the rules alone.
    let sequence = { (at: Int) in bytes.withBytes { $0.bigEndianWord(at: at + 16) } }
    precondition(copy.sequenceID == sequence(copy.isPrimary ? 0 : Int(copy.size)))
    if volume.warnings.isEmpty { precondition(copy.isPrimary && sequence(0) == sequence(Int(copy.size))) }
    precondition(volume.headerSize >= 2 * copy.size)
    precondition(
        LUKSServedBytes.inTheClear(volume, over: isDetached ? LUKSHeaderDevice([], size: 1 << 40) : device) == nil)
    return 0
}

/// A copy of the size that its fields ask for, as far as that is reasonable here.
private func copy(fields: ArraySlice<UInt8>, json: [UInt8]) -> [UInt8] {
    let fields = Array(fields)
    let asked = fields.withBytes { $0.bigEndianWord(at: 8) }
    let size = [16384, 32768, 65536].contains(asked) ? Int(asked) : 16384
    var bytes = fields + [UInt8](repeating: 0, count: 4096 - fields.count) + json.prefix(size - 4096)
    bytes += [UInt8](repeating: 0, count: size - bytes.count)
    return bytes
}

/// Puts the checksum right, if the header names a hash.
private func fixChecksum(_ copy: inout [UInt8]) {
    copy.replaceSubrange(448..<512, with: [UInt8](repeating: 0, count: 64))
    let name = String(decoding: copy[72..<104].prefix { $0 != 0 }, as: UTF8.self)
    guard let checksum = LUKS2BinaryHeader.checksum(name, of: copy) else { return }
    copy.replaceSubrange(448..<(448 + checksum.count), with: checksum)
}
