// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

@Suite struct ImageProbeTests {
    @Test func `qcow2 is found`() throws {
        #expect(try ImageProbe.detect(Qcow2Fixture().device) == .qcow2)
    }

    @Test(
        arguments: [
            ([], "the file is empty"), ([0x55], "say so with -f raw"), ([UInt8](repeating: 0, count: 4096), "-f raw"),
            (Array("LUKS".utf8) + [0xBA, 0xBE, 0, 2], "a LUKS container"), (Array("KDMV1234".utf8), "a VMDK image"),
            (Array("vhdxfile".utf8), "a VHDX image"), (Array("QED\0".utf8), "a QED image"),
        ] as [([UInt8], String)])
    func `anything else is refused with a sentence and never taken for raw`(bytes: [UInt8], part: String) {
        #expect { try ImageProbe.detect(MemoryDevice(bytes)) } throws: { "\($0)".contains(part) }
    }
}
