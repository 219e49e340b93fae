// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

@Suite struct ImageProbeTests {
    @Test func `qcow2 is found`() throws {
        #expect(try ImageProbe.detect(Qcow2Fixture().device) == .qcow2)
    }

    @Test(arguments: [1, 2] as [UInt8])
    func `LUKS is found`(version: UInt8) throws {
        let magic = Array("LUKS".utf8) + [0xBA, 0xBE, 0, version]
        #expect(try ImageProbe.detect(MemoryDevice(magic + [UInt8](repeating: 0, count: 600))) == .luks)
    }

    @Test(arguments: 14...22)
    func `LUKS2 is found by its second header, if that is where it says it is`(bits: Int) throws {
        var bytes = [UInt8](repeating: 0, count: 1 << bits + 4096)
        bytes.replaceSubrange(1 << bits..<1 << bits + 6, with: Array("SKUL".utf8) + [0xBA, 0xBE])
        #expect(throws: FormatError.self) { try ImageProbe.detect(MemoryDevice(bytes)) }
        bytes[1 << bits + 256 + 7 - bits / 8] = UInt8(1 << (bits % 8))
        #expect(try ImageProbe.detect(MemoryDevice(bytes)) == .luks)
    }

    @Test(
        arguments: [
            ([], "the file is empty"), ([0x55], "say so with format raw"), ([0x55], "with its header with luksHeader"),
            ([UInt8](repeating: 0, count: 4096), "say so with format raw"),
            (Array("LUKS".utf8) + [0xBA, 0xBF, 0, 2], "say so with format raw"),
            (Array("KDMV1234".utf8), "a VMDK image"),
            (Array("vhdxfile".utf8), "a VHDX image"), (Array("QED\0".utf8), "a QED image"),
        ] as [([UInt8], String)])
    func `anything else is refused with a sentence and never taken for raw`(bytes: [UInt8], part: String) {
        #expect { try ImageProbe.detect(MemoryDevice(bytes)) } throws: { "\($0)".contains(part) }
    }

    /// A disk with the second copy of a LUKS2 header at 16 KiB.
    private static func leftover(_ pieces: [(offset: Int, bytes: [UInt8])]) -> MemoryDevice {
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let copy: [(Int, [UInt8])] = [(16384, Array("SKUL".utf8) + [0xBA, 0xBE, 0, 2]), (16384 + 256 + 6, [0x40, 0])]
        for (offset, piece) in copy + pieces.map({ ($0.offset, $0.bytes) }) {
            bytes.replaceSubrange(offset..<(offset + piece.count), with: piece)
        }
        return MemoryDevice(bytes)
    }

    @Test(
        arguments: [
            (
                "a DOS partition table",
                [(446, [0, 0, 2, 0, 0x83, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0]), (510, [0x55, 0xAA])]
            ),
            ("a damaged GPT", [(446, [0, 0, 2, 0, 0xEE, 0, 0, 0, 1, 0, 0, 0, 0xFF, 7, 0, 0]), (510, [0x55, 0xAA])]),
            ("Linux swap", [(4086, Array("SWAPSPACE2".utf8))]),
            ("LVM2 physical volume", [(512, Array("LABELONE".utf8) + [1]), (536, Array("LVM2 001".utf8))]),
        ] as [(String, [(offset: Int, bytes: [UInt8])])])
    func `the second LUKS2 header of a disk that something else was written to is only a leftover`(
        name: String, pieces: [(offset: Int, bytes: [UInt8])]
    ) throws {
        let device = Self.leftover(pieces)
        #expect(try ImageProbe.findLUKS(device) == .leftover(behind: name))
        #expect(try !ImageProbe.holdsLUKS(device))
        #expect { try ImageProbe.detect(device) } throws: {
            "\($0)".contains("(\(name))") && "\($0)".contains("format raw") && "\($0)".contains("format luks")
        }
    }

    @Test func `boot code or noise over the first header is no other contents`() throws {
        #expect(try ImageProbe.findLUKS(Self.leftover([])) == .container)
        #expect(try ImageProbe.findLUKS(Self.leftover([(0, [0xEB, 0x63, 0x90]), (510, [0x55, 0xAA])])) == .container)
        #expect(try ImageProbe.findLUKS(MemoryDevice([UInt8](repeating: 0, count: 1 << 20))) == .none)
    }

    @Test(arguments: [true, false], [1, 2] as [UInt8])
    func `the header of an encrypted Ceph clone is refused by name, the second copy alone too`(
        isPrimary: Bool, version: UInt8
    ) throws {
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        if isPrimary { bytes.replaceSubrange(0..<8, with: Array("RBDL".utf8) + [0xBA, 0xBE, 0, version]) }
        // The first copy counts, whatever the second one says.
        let second = isPrimary && version == 2 ? "SKUL" : "LDBR"
        bytes.replaceSubrange(16384..<16392, with: Array(second.utf8) + [0xBA, 0xBE, 0, 2])
        bytes[16384 + 256 + 6] = 0x40
        let device = MemoryDevice(bytes)
        #expect(try ImageProbe.findLUKS(device) == .encryptedClone)
        #expect(try ImageProbe.signature(of: device) == .encryptedClone)
        #expect(try !ImageProbe.holdsLUKS(device))
        let error = #expect(throws: FormatError.self) { try ImageProbe.detect(device) }
        #expect(error == ImageProbe.encryptedClone && error?.code == .unsupported)
        for word in ["Ceph", "RBDL", "rbd flatten --encryption-format luks --encryption-passphrase-file FILE"] {
            #expect(error?.description.contains(word) == true)
        }
        #expect(error?.description.contains("-f raw") == false)
    }
}
