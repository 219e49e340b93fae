// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// An L1 table that is to be examined.
struct Qcow2AuditL1 {
    let range: ByteRange
    /// For messages, e.g. "the L1 table".
    let name: String
    let isActive: Bool
    /// How many snapshots share it.
    var weight: UInt32 = 1
}

/// Finding everything that is not an L2 table or data.
extension Qcow2AuditWalk {
    mutating func findAreas() {
        note(.header, at: 0, length: mapping.clusterSize, "the header")
        noteL1(header.l1TableOffset, UInt64(header.l1EntryCount), name: "the L1 table", isActive: true)
        findSnapshots()
        findRefcounts()
        if let luks = header.extensions.luksHeader {
            note(.luksHeader, at: luks.offset, length: luks.length, "the LUKS header area")
        }
        findBitmaps()
    }

    /// Takes a part of the file as metadata.
    ///
    /// - Returns: nil when it does not lie in the file.
    @discardableResult
    mutating func note(
        _ owner: Qcow2AuditOwner, at offset: UInt64, length: UInt64, _ what: String
    ) -> ByteRange? {
        guard length > 0 else { return nil }
        guard let range = ByteRange(offset: offset, length: length), isInFile(offset, length) else {
            faults.note(
                .outsideFile, at: nil,
                "\(what), \(length) bytes at byte \(offset), is not within the file's \(file.size) bytes")
            return nil
        }
        areas.append(Area(range: range, owner: owner))
        return range
    }

    private mutating func noteL1(_ offset: UInt64, _ entryCount: UInt64, name: String, isActive: Bool) {
        guard entryCount > 0 else { return }
        guard entryCount <= UInt64(Qcow2Header.maximumL1EntryCount) else {
            faults.note(
                .header, at: nil,
                "\(name) has \(entryCount) entries, more than the \(Qcow2Header.maximumL1EntryCount) that are allowed")
            return
        }
        guard offset % mapping.clusterSize == 0 else {
            faults.note(.misaligned, at: nil, "\(name) is at byte \(offset), which is not the start of a cluster")
            return
        }
        guard let range = note(.l1Table, at: offset, length: entryCount * 8, name) else { return }
        guard range.fits(file.size) else {
            faults.note(.outsideFile, at: offset, "\(name) at byte \(offset) is cut off by the end of the file")
            return
        }
        l1Tables.append(Qcow2AuditL1(range: range, name: name, isActive: isActive))
    }

    // MARK: Snapshots

    /// Finds the L1 tables of the snapshots, entry by entry: one that is damaged does not hide the others.
    private mutating func findSnapshots() {
        guard header.snapshotCount > 0 else { return }
        let start = header.snapshotTableOffset
        let faultsBefore = faults.total
        if start % mapping.clusterSize != 0 {
            faults.note(
                .misaligned, at: start, "the snapshot table is at byte \(start), which is not the start of a cluster")
        }
        var end = start
        for index in 0..<Int(header.snapshotCount) {
            let name = "the snapshot table: entry \(index)"
            guard ByteRange(offset: end, length: 40)?.fits(file.size) ?? false, end - start <= 64 << 20 else {
                faults.note(.outsideFile, at: nil, "\(name) is at byte \(end), outside the file or its 64 MiB")
                stop("not all snapshots can be found")
                break
            }
            guard let bytes = read(40, at: end, name) else { break }
            var reader = ByteReader(bytes)
            let l1Offset = reader.integer(UInt64.self) ?? 0
            let l1EntryCount = UInt64(reader.integer(UInt32.self) ?? 0)
            let textLength = UInt64(reader.integer(UInt16.self) ?? 0) + UInt64(reader.integer(UInt16.self) ?? 0)
            _ = reader.take(20)
            let extraLength = UInt64(reader.integer(UInt32.self) ?? 0)
            guard extraLength <= 1024 else {
                faults.note(.header, at: end, "\(name): \(extraLength) bytes of extra data, more than 1024")
                stop("not all snapshots can be found")
                break
            }
            noteL1(l1Offset, l1EntryCount, name: "the L1 table of snapshot \(index)", isActive: false)
            end += (40 + extraLength + textLength + 7) / 8 * 8
        }
        note(.snapshotTable, at: start, length: end - start, "the snapshot table")
        // What else would keep a snapshot from being served.
        guard faults.total == faultsBefore, isComplete, spend(end - start) else { return }
        do { _ = try Qcow2Snapshot.all(of: file, header) } catch {
            faults.note(.header, at: start, error.sentence)
        }
    }

    var isComplete: Bool { incompleteness == nil }

    // MARK: Bitmaps

    private static let bitmapsExtension: UInt32 = 0x2385_2875
    private static let maximumBitmapCount: UInt32 = 65535
    private static let maximumDirectorySize: UInt64 = 64 << 20
    private static let maximumBitmapTableEntryCount: UInt64 = 0x800_0000

    /// Finds the directory of bitmaps and the tables that it names. Source: qcow2 specification, "Bitmaps".
    private mutating func findBitmaps() {
        // Without the autoclear bit, what the extension says is out of date: QEMU ignores it.
        guard header.extensions.hasBitmaps, header.features.autoclear & 1 == 1, let data = bitmapsExtension() else {
            return
        }
        var reader = ByteReader(data)
        let count = reader.integer(UInt32.self) ?? 0
        _ = reader.take(4)
        guard let size = reader.integer(UInt64.self), let offset = reader.integer(UInt64.self),
            count <= Self.maximumBitmapCount, size <= Self.maximumDirectorySize
        else {
            faults.note(.header, at: nil, "the header extension for bitmaps is too short, or asks for too many")
            return
        }
        if offset % mapping.clusterSize != 0 {
            faults.note(
                .misaligned, at: offset,
                "the bitmap directory is at byte \(offset), which is not the start of a cluster")
        }
        guard let directory = note(.bitmapDirectory, at: offset, length: size, "the bitmap directory") else { return }
        var place = directory.offset
        for index in 0..<count {
            let name = "the bitmap directory: entry \(index)"
            guard let fixed = ByteRange(offset: place, length: 24), fixed.end <= directory.end, fixed.fits(file.size)
            else {
                faults.note(.header, at: place, "\(name) is behind the end of the directory")
                return stop("not all bitmaps can be found")
            }
            guard let bytes = read(24, at: place, name) else { return }
            var reader = ByteReader(bytes)
            let tableOffset = reader.integer(UInt64.self) ?? 0
            let entryCount = UInt64(reader.integer(UInt32.self) ?? 0)
            _ = reader.take(6)
            let nameLength = UInt64(reader.integer(UInt16.self) ?? 0)
            let extraLength = UInt64(reader.integer(UInt32.self) ?? 0)
            noteBitmapTable(tableOffset, entryCount, index, place)
            place += (24 + extraLength + nameLength + 7) / 8 * 8
        }
    }

    private mutating func noteBitmapTable(_ offset: UInt64, _ entryCount: UInt64, _ index: UInt32, _ place: UInt64) {
        guard offset > 0, entryCount > 0 else { return }
        let name = "the table of bitmap \(index)"
        guard entryCount <= Self.maximumBitmapTableEntryCount else {
            faults.note(.header, at: place, "\(name) has \(entryCount) entries, which is too many")
            return
        }
        if offset % mapping.clusterSize != 0 {
            faults.note(.misaligned, at: place, "\(name) is at byte \(offset), which is not the start of a cluster")
        }
        guard let range = note(.bitmapTable, at: offset, length: entryCount * 8, name) else { return }
        guard range.fits(file.size) else {
            faults.note(.outsideFile, at: offset, "\(name) is cut off by the end of the file")
            return
        }
        bitmapTables.append(range)
    }

    /// The data of the extension; nil when there is none.
    private mutating func bitmapsExtension() -> [UInt8]? {
        guard let bytes = read(Int(min(mapping.clusterSize, file.size)), at: 0, "the header") else { return nil }
        var fixed = ByteReader(bytes)
        _ = fixed.take(100)
        var reader = ByteReader(bytes.dropFirst(Int(fixed.integer(UInt32.self) ?? 0)))
        while let type = reader.integer(UInt32.self), type != 0 {
            guard let length = reader.integer(UInt32.self), let data = reader.take(Int(length)) else { return nil }
            if type == Self.bitmapsExtension { return Array(data) }
            _ = reader.take(min((8 - Int(length) % 8) % 8, reader.remaining))
        }
        return nil
    }

    /// Counts the clusters of all bitmaps.
    mutating func countBitmaps() {
        let reserved: UInt64 = 0xFF00_0000_0000_01FE
        let mask: UInt64 = 0x00FF_FFFF_FFFF_FE00
        for table in bitmapTables {
            // The rest of them costs nothing any more.
            guard isComplete || workLeft > 0 else { return }
            forEachPiece(of: table, "a bitmap table") { walk, place, words in
                for (index, word) in words.enumerated() where word != 0 {
                    let offset = word & mask
                    let size = walk.mapping.clusterSize
                    let isValid = word & reserved == 0 && (offset == 0 || word & 1 == 0) && offset % size == 0
                    guard isValid, offset == 0 || walk.isInFile(offset, size) else {
                        guard walk.isFirstPass else { continue }
                        let entry = place + UInt64(index) * 8
                        walk.faults.note(
                            isValid ? .outsideFile : .invalidEntry, at: entry,
                            "the bitmap table entry at byte \(entry) is 0x\(String(word, radix: 16)), which leads nowhere"
                        )
                        continue
                    }
                    if offset != 0 { walk.reference(offset, size, .bitmap, 1) }
                }
            }
        }
    }
}
