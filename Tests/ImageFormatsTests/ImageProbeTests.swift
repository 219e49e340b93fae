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
            ([], "the file is empty"), ([0x55], "say so with -f raw"), ([UInt8](repeating: 0, count: 4096), "-f raw"),
            (Array("LUKS".utf8) + [0xBA, 0xBF, 0, 2], "-f raw"), (Array("KDMV1234".utf8), "a VMDK image"),
            (Array("vhdxfile".utf8), "a VHDX image"), (Array("QED\0".utf8), "a QED image"),
        ] as [([UInt8], String)])
    func `anything else is refused with a sentence and never taken for raw`(bytes: [UInt8], part: String) {
        #expect { try ImageProbe.detect(MemoryDevice(bytes)) } throws: { "\($0)".contains(part) }
    }
}
