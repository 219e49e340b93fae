// SPDX-License-Identifier: Apache-2.0

import BlockIO
@testable import Crypto
import TestSupport

/// The JSON area of a LUKS2 header, as it is and filled up with NUL bytes to 12 KiB.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzLUKS2JSON(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    if let object = try? StrictJSON.read(area: input) { checkDepth(.object(object), 1) }
    guard input.count < 12288 else { return 0 }
    let json = input + [UInt8](repeating: 0, count: 12288 - input.count)
    for (isDetached, dataSize) in [(false, 1 << 30), (true, nil), (true, 1 << 21)] as [(Bool, UInt64?)] {
        let surroundings = LUKSSurroundings(headerDeviceSize: 1 << 30, dataSize: dataSize, isDetached: isDetached)
        guard let metadata = try? LUKS2Metadata(json: json, at: 4096, surroundings) else { continue }
        check(metadata, surroundings)
        let volume = LUKSVolume(
            version: 2, uuid: "", label: "", subsystem: "", keyslots: metadata.keyslots,
            otherKeyslots: metadata.otherKeyslots, digests: metadata.digests, segments: metadata.segments,
            tokens: metadata.tokens, requirements: metadata.requirements, flags: metadata.flags,
            headerSize: metadata.headerSize, copy: nil, warnings: [])
        let data = LUKSHeaderDevice([], size: dataSize ?? 1 << 40)
        precondition(LUKSServedBytes.inTheClear(volume, over: data) == nil)
        // The disk has no gap: its segments are all that are no backup, and each was looked at.
        precondition(volume.disk.map(\.number) == Array(0..<volume.disk.count))
        if volume.isOnlyInitialised { precondition(volume.disk.count == 1 && volume.disk[0].isEncrypted) }
    }
    return 0
}

private func checkDepth(_ value: JSONValue, _ depth: Int) {
    switch value {
    case .object(let members):
        precondition(depth <= StrictJSON.maximumDepth)
        for member in members.values { checkDepth(member, depth + 1) }
    case .array(let elements):
        precondition(depth <= StrictJSON.maximumDepth)
        for element in elements { checkDepth(element, depth + 1) }
    case .string, .number, .bool, .null: break
    }
}

/// What everything behind the parser relies on.
private func check(_ metadata: LUKS2Metadata, _ surroundings: LUKSSurroundings) {
    let keyslots = Set(metadata.keyslots.map(\.number) + metadata.otherKeyslots.map(\.number))
    precondition(keyslots.count <= 32 && metadata.tokens.count <= 32 && metadata.digests.count <= 8)
    let areas = metadata.keyslots.map(\.area).sorted { $0.offset < $1.offset }
    precondition(areas.allSatisfy { $0.offset >= 32768 && $0.fits(metadata.headerSize) && $0.offset % 512 == 0 })
    precondition(zip(areas, areas.dropFirst()).allSatisfy { $0.end <= $1.offset })
    for keyslot in metadata.keyslots {
        precondition((1...512).contains(keyslot.keySize) && (1...512).contains(keyslot.encryptionKeySize))
        precondition(keyslot.stripes == 4000 && keyslot.area.length >= UInt64(keyslot.keySize * 4000))
        precondition((8...64).contains(keyslot.derivation.salt.count))
    }
    for references in metadata.digests.map(\.keyslots) + metadata.tokens.map(\.keyslots) {
        precondition(keyslots.isSuperset(of: references))
    }
    precondition(!metadata.segments.isEmpty && metadata.segments.count <= 32)
    precondition(metadata.segments.map(\.number) == Array(0..<metadata.segments.count))
    for segment in metadata.segments where !segment.isBackup {
        precondition(segment.offset % 512 == 0 && (surroundings.isDetached || segment.offset >= metadata.headerSize))
        if let dataSize = surroundings.dataSize {
            precondition(segment.offset < dataSize && (segment.size ?? 0) <= dataSize - segment.offset)
        }
        if case .crypt(_, let sectorSize, _) = segment.kind {
            precondition([512, 1024, 2048, 4096].contains(sectorSize) && (segment.size ?? 0) % UInt64(sectorSize) == 0)
            let provers = metadata.digests.count { $0.segments.contains(segment.number) }
            precondition(provers == 1 || provers == 2 && segment.flags.contains("in-reencryption"))
        }
    }
}
