// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A qcow2 image without data, made by hand: qemu-img does not write every name, nor every table.
struct HostileImage {
    /// The name of the backing file.
    var backing: [UInt8]?
    /// The format of the backing file; nil: not said.
    var format: String?
    /// The name of the external data file.
    var dataFile: [UInt8]?
    /// The guest disk in bytes.
    var size: UInt64 = 1 << 20
    /// nb_snapshots.
    var snapshotCount: UInt32 = 0
    /// What lies at ``snapshotOffset``.
    var snapshotTable: [UInt8] = []

    static let clusterSize = 65536
    /// The first cluster behind header, refcounts and the L1 table.
    static let snapshotOffset = 4 * clusterSize
    private static let nameOffset = 4096

    init(backing: [UInt8]? = nil, format: String? = nil, dataFile: [UInt8]? = nil) {
        self.backing = backing
        self.format = format
        self.dataFile = dataFile
    }

    init(backing: String, format: String? = "raw") { self.init(backing: Array(backing.utf8), format: format) }

    init(dataFile: String) { self.init(dataFile: Array(dataFile.utf8)) }

    private var bytes: Data {
        var bytes: [UInt8] = [0x51, 0x46, 0x49, 0xFB]
        func add(_ value: some FixedWidthInteger) { bytes += Qcow2Editor.bytes(value) }
        func addExtension(_ type: UInt32, _ data: [UInt8]) {
            add(type)
            add(UInt32(data.count))
            bytes += data + [UInt8](repeating: 0, count: (8 - data.count % 8) % 8)
        }
        add(UInt32(3))
        add(UInt64(backing == nil ? 0 : Self.nameOffset))
        add(UInt32(backing?.count ?? 0))
        add(UInt32(16))  // cluster_bits
        add(size)
        add(UInt32(0))  // crypt_method
        add(UInt32(1))  // l1_size
        add(UInt64(3 * Self.clusterSize))
        add(UInt64(Self.clusterSize))  // refcount_table_offset
        add(UInt32(1))
        add(snapshotCount)
        add(UInt64(snapshotCount > 0 ? Self.snapshotOffset : 0))
        add(UInt64(dataFile == nil ? 0 : 4))  // incompatible_features
        add(UInt64(0))
        add(UInt64(0))
        add(UInt32(4))
        add(UInt32(104))
        if let format { addExtension(0xE279_2ACA, Array(format.utf8)) }
        if let dataFile { addExtension(0x4441_5441, dataFile) }
        addExtension(0, [])
        bytes += [UInt8](repeating: 0, count: max(0, Self.nameOffset - bytes.count))
        if let backing { bytes += backing }
        bytes += [UInt8](repeating: 0, count: Self.snapshotOffset - bytes.count)
        return Data(bytes + snapshotTable)
    }

    /// Writes the image and returns its path.
    @discardableResult
    func write(to path: String) throws -> String {
        try bytes.write(to: URL(fileURLWithPath: path))
        return path
    }

    /// An entry of the snapshot table, padded.
    static func snapshot(
        l1Offset: UInt64 = UInt64(3 * clusterSize), l1Count: UInt32 = 1, id: String, name: String,
        size: UInt64 = 1 << 20, extraLength: UInt32? = nil
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        func add(_ value: some FixedWidthInteger) { bytes += Qcow2Editor.bytes(value) }
        add(l1Offset)
        add(l1Count)
        add(UInt16(id.utf8.count))
        add(UInt16(name.utf8.count))
        add(UInt32(0))
        add(UInt32(0))
        add(UInt64(0))
        add(UInt32(0))
        add(extraLength ?? 16)
        add(UInt64(0))
        add(size)
        bytes += Array(id.utf8) + Array(name.utf8)
        return bytes + [UInt8](repeating: 0, count: (8 - bytes.count % 8) % 8)
    }
}
