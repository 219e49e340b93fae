// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Every header field out of its range: one sentence says what, where, found and allowed.
@Suite(.fewAtATime)
struct HeaderFaultTests {
    /// A change to the header of a sound image of 1 MiB with clusters of 64 KiB.
    struct Fault: Sendable, CustomStringConvertible {
        let description: String
        var compat = "1.1"
        /// Bytes and where to put them.
        let changes: [(Int, [UInt8])]
        /// Parts of the sentence.
        let says: [String]

        init(_ description: String, compat: String = "1.1", _ changes: [(Int, [UInt8])], _ says: String...) {
            self.description = description
            self.compat = compat
            self.changes = changes
            self.says = says
        }
    }

    private static func w(_ value: UInt32) -> [UInt8] { Qcow2Editor.bytes(value) }
    private static func l(_ value: UInt64) -> [UInt8] { Qcow2Editor.bytes(value) }

    static let fixedPart: [Fault] = [
        Fault("magic", [(0, [0x51, 0x46, 0x49, 0xFC])], "no format", "-f raw"),
        Fault("version 0", [(4, w(0))], "version at byte 4", "found 0", "2 or 3"),
        Fault("version 1", [(4, w(1))], "qcow header: cluster_bits at byte 32"),
        Fault("version 4", [(4, w(4))], "version at byte 4", "found 4", "2 or 3"),
        Fault("version of all ones", [(4, w(.max))], "version at byte 4", "found 4294967295"),
        Fault("cluster_bits 0", [(20, w(0))], "cluster_bits at byte 20", "found 0", "9 to 21"),
        Fault("cluster_bits 8", [(20, w(8))], "cluster_bits at byte 20", "found 8", "9 to 21"),
        Fault("cluster_bits 22", [(20, w(22))], "cluster_bits at byte 20", "found 22", "9 to 21"),
        Fault("cluster_bits 64", [(20, w(64))], "cluster_bits at byte 20", "found 64"),
        Fault("cluster_bits of all ones", [(20, w(.max))], "cluster_bits at byte 20", "found 4294967295"),
        Fault("crypt_method 3", [(32, w(3))], "crypt_method at byte 32", "found 3"),
        Fault("crypt_method of all ones", [(32, w(.max))], "crypt_method at byte 32", "found 4294967295"),
        Fault("crypt_method 2 without its extension", [(32, w(2))], "crypt_method", "0x0537be77"),
        Fault("nb_snapshots 65537", [(60, w(65_537))], "nb_snapshots at byte 60", "found 65537", "65536"),
        Fault("cluster_bits 8 in version 2", compat: "0.10", [(20, w(8))], "cluster_bits at byte 20"),
        Fault("crypt_method 3 in version 2", compat: "0.10", [(32, w(3))], "crypt_method at byte 32"),
    ]

    static let sizesAndTables: [Fault] = [
        Fault("size of 8 EiB", [(24, l(1 << 63))], "size at byte 24", "found 9223372036854775808"),
        Fault("size of all ones", [(24, l(.max))], "size at byte 24", "found 18446744073709551615"),
        Fault("size beyond the L1 table", [(24, l(1 << 40))], "l1_size at byte 36", "at least 2048"),
        Fault("l1_size 0", [(36, w(0))], "l1_size at byte 36", "found 0", "at least 1"),
        Fault("l1_size beyond 32 MiB", [(36, w(4_194_305))], "l1_size at byte 36", "found 4194305", "4194304"),
        Fault("l1_size of all ones", [(36, w(.max))], "l1_size at byte 36", "found 4294967295"),
        Fault("l1_size beyond the file", [(36, w(4_194_304))], "l1_table_offset at byte 40", "within the file"),
        Fault(
            "l1_table_offset not aligned", [(40, l(0x30200))], "l1_table_offset at byte 40", "multiple of the cluster"),
        Fault("l1_table_offset beyond the file", [(40, l(1 << 30))], "l1_table_offset at byte 40", "within the file"),
        Fault("l1_table_offset that overflows", [(40, l(0xFFFF_FFFF_FFFF_0000))], "l1_table_offset at byte 40"),
        Fault("l1_table_offset negative", [(40, l(1 << 63))], "l1_table_offset at byte 40", "within the file"),
        Fault("L1 table in the header", [(40, l(0))], "L1 table", "entry 0", "--allow-damaged"),
        Fault("refcount_table_offset not aligned", [(48, l(0x10001))], "refcount_table_offset at byte 48"),
        Fault("refcount_table_offset beyond the file", [(48, l(1 << 40))], "refcount_table_offset at byte 48"),
        Fault("refcount_table_offset that overflows", [(48, l(0xFFFF_FFFF_FFFF_0000))], "refcount_table_offset"),
        Fault("refcount_table_clusters 0", [(56, w(0))], "refcount_table_clusters at byte 56", "found 0"),
        Fault("refcount_table_clusters 129", [(56, w(129))], "refcount_table_clusters at byte 56", "1 to 128"),
        Fault("refcount_table_clusters of all ones", [(56, w(.max))], "refcount_table_clusters at byte 56"),
        Fault("refcount table beyond the file", [(56, w(128))], "refcount_table_offset at byte 48", "within the file"),
        Fault("backing name of 1024 bytes", [(8, l(512)), (16, w(1024))], "backing_file_size at byte 16", "1023"),
        Fault("backing name of all ones", [(8, l(512)), (16, w(.max))], "backing_file_size at byte 16"),
        Fault("backing name beyond the first cluster", [(8, l(65_530)), (16, w(7))], "backing_file_offset at byte 8"),
        Fault("backing_file_offset that overflows", [(8, l(.max)), (16, w(7))], "backing_file_offset at byte 8"),
        Fault("backing_file_offset in the file's middle", [(8, l(1 << 17)), (16, w(7))], "backing_file_offset"),
        Fault("size of 8 EiB in version 2", compat: "0.10", [(24, l(1 << 63))], "size at byte 24"),
        Fault("l1_size 0 in version 2", compat: "0.10", [(36, w(0))], "l1_size at byte 36"),
    ]

    static let version3: [Fault] = [
        Fault("refcount_order 7", [(96, w(7))], "refcount_order at byte 96", "found 7", "0 to 6"),
        Fault("refcount_order of all ones", [(96, w(.max))], "refcount_order at byte 96"),
        Fault("header_length 0", [(100, w(0))], "header_length at byte 100", "found 0", "104 to"),
        Fault("header_length 103", [(100, w(103))], "header_length at byte 100", "found 103", "104 to 65536"),
        Fault("header_length beyond the cluster", [(100, w(65_537))], "header_length at byte 100", "found 65537"),
        Fault("header_length of all ones", [(100, w(.max))], "header_length at byte 100"),
        Fault("compression_type 2", [(104, [2]), (72, l(8))], "compression_type at byte 104", "found 2"),
        Fault("compression_type without its bit", [(104, [1])], "bit 3", "found clear"),
        Fault("compression bit without its type", [(72, l(8))], "bit 3", "found set"),
        Fault("unknown incompatible bits", [(72, l(0x8000_0000_0000_0020))], "unknown bit 5", "unknown bit 63"),
        Fault("extension longer than the cluster", [(112, w(0x6803_F857)), (116, w(65_536))], "extension 0x6803f857"),
        Fault("extension length of all ones", [(112, w(0x1234_5678)), (116, w(.max))], "extension 0x12345678"),
        Fault(
            "LUKS extension without crypt_method 2", [(112, w(0x0537_BE77)), (116, w(16))], "0x0537be77",
            "crypt_method 2"),
        Fault(
            "LUKS extension of 15 bytes", [(32, w(2)), (112, w(0x0537_BE77)), (116, w(15))], "537be77", "15 bytes",
            "16 bytes"),
    ]

    @Test(arguments: fixedPart + sizesAndTables + version3)
    func `a header field out of range is refused with one sentence`(_ fault: Fault) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let recipe = ImageRecipe(compat: fault.compat, size: 1 << 20)
        let image = try await ImageMaker(directory: directory).empty(recipe)
        let editor = Qcow2Editor(path: image.path)
        for (offset, bytes) in fault.changes { try editor.set(bytes, at: offset) }
        let outcome = try await Program.run(["serve", image.path, "--socket", directory.file("s")])
        Program.expectRefusal(outcome, status: 65, saying: [image.path] + fault.says)
        #expect(!File.exists(directory.file("s")))
        // Only what another program may know, a table to look into and a name to show are no errors there.
        let showable = ["unknown incompatible bits", "L1 table in the header"]
        let info = try await Program.run(["info", image.path])
        if showable.contains(fault.description) {
            #expect(info.code == 0 || info.code == 65)
        } else {
            Program.expectRefusal(info, status: 65, saying: fault.says)
        }
    }

    @Test
    func `1 KiB that claims exabytes is refused at once, and so is a sparse file that claims all that is allowed`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ImageMaker(directory: directory).empty(ImageRecipe(clusterBits: 9, size: 1 << 20))
        let editor = Qcow2Editor(path: image.path)
        try editor.truncate(to: 1024)
        try editor.set(UInt32(21), at: 20)
        try editor.set(UInt64(1) << 62, at: 24)
        try editor.set(UInt32(1 << 22), at: 36)
        for command in ["serve", "info"] {
            try await Program.expectRefusal([command, image.path], status: 65, saying: "size at byte 24")
        }
        // 2 EiB is what a full L1 table can hold: 2^22 entries for 2^39 bytes each.
        try editor.set(UInt64(1) << 61, at: 24)
        try editor.set(UInt64(0x20_0000), at: 40)
        for command in ["serve", "info"] {
            try await Program.expectRefusal([command, image.path], status: 65, saying: "l1_table_offset at byte 40")
        }
        // With a sparse file all of that is there: nothing but zeros, which is a disk.
        try editor.truncate(to: 1 << 30)
        try editor.set(UInt64(0x40_0000 * 16), at: 48)
        try editor.set(UInt32(1), at: 56)
        let start = ContinuousClock.now
        try await ServerUnderTest.run(["serve", image.path, "--socket", directory.file("s")], in: directory) { server in
            let client = try LibNBDClient(server.uri)
            #expect(client.size == 1 << 61)
            let end = try client.read(4096, at: 1 << 61 - 4096)
            #expect(end == Data(count: 4096))
            let memory = try server.residentMemory(highest: true)
            #expect(memory < 64 << 20)
        }
        #expect(ContinuousClock.now - start < .seconds(10))
    }
}
