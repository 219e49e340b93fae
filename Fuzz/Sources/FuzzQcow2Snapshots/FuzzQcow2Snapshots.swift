// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport

/// An image file: the header extensions, the snapshot table, and the disks of snapshots, subclusters and data files
/// among them.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzQcow2Snapshots(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    let device = MemoryDevice(bytes)
    guard let header = try? Qcow2Header(device: device) else { return 0 }
    check(header.extensions, in: bytes)
    guard (try? Qcow2Support.check(header)) != nil else { return 0 }
    // The data file is as hostile as the image.
    let dataFile = header.features.contains(.externalDataFile) ? MemoryDevice(Array(bytes.reversed())) : nil
    let backing = MemoryDevice(Array(bytes.prefix(4097)))
    let snapshots = (try? Qcow2Snapshot.all(of: device, header)) ?? []
    precondition(snapshots.isEmpty || snapshots.count == Int(header.snapshotCount))
    // Entries have 40 bytes at least.
    precondition(snapshots.count <= count / 40)
    for snapshot in snapshots.prefix(4) {
        precondition(isPrintable(snapshot.id) && isPrintable(snapshot.name))
        precondition(snapshot.mapping.virtualSize % 512 == 0)
        check(
            Qcow2Image(
                file: device, header: header, mapping: snapshot.mapping,
                cipher: header.encryption == .none ? nil : InvertingCipher(), dataFile: dataFile, backing: backing))
    }
    check(
        Qcow2Image(
            file: device, header: header, cipher: header.encryption == .none ? nil : InvertingCipher(),
            dataFile: dataFile, backing: backing))
    return 0
}

/// What is kept of the extensions is part of the image, and safe to show.
private func check(_ extensions: Qcow2Extensions, in bytes: [UInt8]) {
    precondition((extensions.dataFile?.bytes.count ?? 0) <= bytes.count)
    precondition(isPrintable(extensions.dataFile?.shown ?? "") && isPrintable(extensions.backingFormat ?? ""))
    precondition(extensions.featureNames.count <= bytes.count / 48)
    for feature in extensions.featureNames { precondition(isPrintable(feature.name) && feature.name.utf8.count <= 200) }
    if let luks = extensions.luksHeader { precondition(luks.offset <= UInt64(bytes.count)) }
}

private func isPrintable(_ text: String) -> Bool { text.unicodeScalars.allSatisfy(\.isShown) }

private func check(_ image: Qcow2Image) { AlignedDevice(image).checkRules((16_384, 1024)) }
