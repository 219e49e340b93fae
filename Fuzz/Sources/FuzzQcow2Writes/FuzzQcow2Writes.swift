// SPDX-License-Identifier: Apache-2.0

import BlockIO
import FuzzMain
import TestSupport

@testable import ImageFormats

/// The number of verbs, the verbs, and an image file that they are carried out on.
///
/// A damaged image may end as it likes, but for what belongs to snapshots and the LUKS header, which nothing changes; a sound
/// one stays sound, and has what was written.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzQcow2Writes(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    var input = ByteReader(unsafe Array(UnsafeBufferPointer(start: start, count: count)))
    guard let verbCount = input.integer(UInt8.self), let verbs = input.take(Int(verbCount % 64) * Verb.byteCount),
        let image = input.take(input.remaining)
    else { return 0 }
    let file = MemoryDevice(Array(image), isWritable: true)
    file.faults.maximumSize = 4 << 20
    guard let header = try? Qcow2Header(device: file), header.virtualSize <= 1 << 20,
        (try? Qcow2Support.checkWritable(header)) != nil, (try? MappedCensus.checkL1(file: file, header: header)) != nil
    else { return 0 }
    let numbered = header.features.contains(.externalDataFile) ? numberedSectors(header.virtualSize) : nil
    let dataFile = numbered.map { MemoryDevice($0, isWritable: true) }
    let isSound = judge(file)
    // One whose tables lie over each other is refused.
    guard let image = open(file, header, dataFile) else {
        expect(!isSound, "a sound image is refused")
        return 0
    }
    let kept = keptBytes(file, header)
    let disk = AlignedDevice(image)
    guard let contents = try? disk.read(count: Int(disk.size), at: 0) else { return 0 }
    let isKnown = isSound && numbered.map { isInPlace(contents, $0, isInverted: header.encryption != .none) } ?? true
    var model = Model(contents: contents, isKnown: isKnown)
    var reader = ByteReader(verbs)
    while let verb = Verb(&reader, size: disk.size) { model.run(verb, on: disk) }
    let isFlushed = (try? disk.flush()) != nil
    // The file may have grown where they ended with it.
    expect(
        zip(kept, keptBytes(file, header)).allSatisfy { before, after in
            after.count >= before.count && after.hasSameBytes(0..<before.count, as: before, at: 0)
        }, "what belongs to snapshots or LUKS has been changed")
    guard isFlushed, isSound else { return 0 }
    expect(judge(file), "the image is damaged")
    guard let again = open(file, header, dataFile) else { fatalError("what was written is refused") }
    if isKnown { model.compare(AlignedDevice(again)) }
    return 0
}

/// Sectors that all differ.
private func numberedSectors(_ size: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    for sector in 0..<(size / 512) {
        bytes += [UInt8](repeating: UInt8(truncatingIfNeeded: sector), count: 256)
        bytes += [UInt8](repeating: UInt8(truncatingIfNeeded: sector >> 8) | 0x80, count: 256)
    }
    return bytes
}

/// Are sectors of the disk zeros, or those that the data file has at the same place? Where entries lead elsewhere, which the
/// audit leaves alone and a write refuses, two parts of the disk may be one.
private func isInPlace(_ contents: [UInt8], _ numbered: [UInt8], isInverted: Bool) -> Bool {
    let zeros = [UInt8](repeating: 0, count: 512)
    let stored = isInverted ? numbered.map { ~$0 } : numbered
    return stride(from: 0, to: contents.count, by: 512).allSatisfy { sector in
        contents.hasSameBytes(sector..<(sector + 512), as: stored, at: sector)
            || contents.hasSameBytes(sector..<(sector + 512), as: zeros, at: 0)
    }
}

/// Ends the program, with a sentence in builds for release, too.
private func expect(_ condition: Bool, _ otherwise: @autoclosure () -> String) {
    guard condition else { fatalError(otherwise()) }
}

/// Changes the verbs alone three times out of four: an image in which a byte has been changed is seldom sound, and of one
/// that is not, less can be judged.
@_cdecl("LLVMFuzzerCustomMutator")
public func mutate(_ input: UnsafeMutablePointer<UInt8>, _ count: Int, _ maximumCount: Int, _ seed: CUnsignedInt) -> Int
{
    let oldCount = count > 0 ? unsafe Int(input[0] % 64) * Verb.byteCount : 0
    guard seed % 4 > 0, oldCount > 0, count > 1 + oldCount else {
        return unsafe LLVMFuzzerMutate(input, count, maximumCount)
    }
    var verbs = unsafe Array(UnsafeBufferPointer(start: input + 1, count: oldCount))
    let room = 63 * Verb.byteCount
    verbs += [UInt8](repeating: 0, count: room - oldCount)
    let byteCount = unsafe LLVMFuzzerMutate(&verbs, oldCount, room)
    let newCount = (byteCount + Verb.byteCount - 1) / Verb.byteCount * Verb.byteCount
    let imageCount = count - 1 - oldCount
    guard 1 + newCount + imageCount <= maximumCount else { return unsafe LLVMFuzzerMutate(input, count, maximumCount) }
    unsafe (input + 1 + newCount).update(from: input + 1 + oldCount, count: imageCount)
    unsafe (input + 1).update(from: verbs, count: newCount)
    unsafe input[0] = UInt8(newCount / Verb.byteCount)
    return 1 + newCount + imageCount
}

private func judge(_ file: MemoryDevice) -> Bool {
    guard let header = try? Qcow2Header(device: file) else { return false }
    let audit = Qcow2Audit(file: file, header: header)
    return audit.isComplete && audit.faults.total == 0
}

private func open(_ file: MemoryDevice, _ header: Qcow2Header, _ dataFile: MemoryDevice?) -> Qcow2Image? {
    try? Qcow2Image(
        writing: file, header: header, cipher: header.encryption == .none ? nil : InvertingCipher(),
        dataFile: dataFile,
        backing: header.backingFile == nil ? nil : MemoryDevice(Array(repeating: 0x42, count: 5000)))
}

/// The L1 and L2 tables of snapshots, the snapshot table, the LUKS header: what no write changes, whatever entries say.
private func keptBytes(_ file: MemoryDevice, _ header: Qcow2Header) -> [[UInt8]] {
    func part(_ offset: UInt64, _ length: UInt64) -> [UInt8] {
        let start = min(offset, file.size)
        return (try? file.read(count: Int(min(length, file.size - start)), at: start)) ?? []
    }
    var parts: [[UInt8]] = []
    if let luks = header.extensions.luksHeader { parts.append(part(luks.offset, luks.length)) }
    guard let table = try? Qcow2Snapshot.table(of: file, header) else { return parts }
    parts.append(part(header.snapshotTableOffset, table.length))
    for snapshot in table.snapshots.prefix(4) {
        let l1 = part(snapshot.mapping.l1TableOffset, UInt64(snapshot.mapping.l1EntryCount) * 8)
        parts.append(l1)
        for place in stride(from: 0, to: min(l1.count, 64) / 8 * 8, by: 8) {
            let entry = l1.withBytes { $0.bigEndianWord(at: place) }
            if let l2 = Qcow2Mapping.l2Table(l1Entry: entry) { parts.append(part(l2.bytes, header.clusterSize)) }
        }
    }
    return parts
}

private struct Verb {
    static let byteCount = 6
    let kind: UInt8
    let range: ByteRange

    init?(_ reader: inout ByteReader, size: UInt64) {
        guard let kind = reader.integer(UInt8.self), let offset = reader.integer(UInt16.self),
            let length = reader.integer(UInt16.self), let unit = reader.integer(UInt8.self), size > 0
        else { return nil }
        self.kind = kind
        let scale: UInt64 = unit % 2 == 0 ? 512 : 1
        let start = UInt64(offset) * scale % size
        // Of all magnitudes.
        let longest = (UInt64(length) * scale / 16) >> UInt64(unit / 2 % 8)
        guard let range = ByteRange(offset: start, length: min(size - start, 1 + longest)) else { return nil }
        self.range = range
    }
}

/// What the disk has, as far as that is known.
private struct Model {
    var contents: [UInt8]
    let isKnown: Bool

    mutating func run(_ verb: Verb, on disk: any BlockDevice) {
        let place = Int(verb.range.offset)..<Int(verb.range.end)
        var new: [UInt8]?
        do throws(BlockError) {
            switch verb.kind % 8 {
            case 0..<4:
                let bytes = [UInt8](repeating: verb.kind, count: place.count)
                try disk.write(bytes, at: verb.range.offset)
                new = bytes
            case 4, 5:
                try disk.zero(verb.range, verb.kind & 8 == 0 ? [] : .mayDiscard)
                new = [UInt8](repeating: 0, count: place.count)
            case 6: try disk.discard(verb.range)
            default: try disk.flush()
            }
        } catch {}
        guard isKnown else { return }
        guard let found = try? disk.read(count: place.count, at: verb.range.offset) else { return }
        if let new {
            expect(found.hasSameBytes(0..<found.count, as: new, at: 0), "\(verb): what is read is not what was written")
        }
        contents.replaceSubrange(place, with: found)
    }

    func compare(_ disk: any BlockDevice) {
        guard let found = try? disk.read(count: contents.count, at: 0) else {
            fatalError("what was read before cannot be read")
        }
        expect(found.hasSameBytes(0..<found.count, as: contents, at: 0), "opened anew, the disk is another")
    }
}
