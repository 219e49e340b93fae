// SPDX-License-Identifier: Apache-2.0

import Foundation
import TestSupport
import Testing

/// Damaged LUKS headers, as the user of the program meets them.
@Suite(.fewAtATime)
struct LUKSFaultTests {
    @Test(arguments: LUKSDamage.all)
    func `every fault ends serve and info with 65 and its sentence, but a header alone is described`(
        _ damage: LUKSDamage
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = try directory.write("disk.luks", Data(damage.image.bytes))
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try handle.truncate(atOffset: damage.image.size)
        try handle.close()
        for arguments in [["serve", path, "--socket", directory.file("s")], ["info", path]] {
            // Some faults hide what the file is.
            for format in [[], ["-f", "luks"]] {
                let outcome = try await Program.run(arguments + format)
                guard !format.isEmpty || !outcome.errors.contains("no format that nbdecrypt knows") else {
                    #expect(outcome.code == 65)
                    continue
                }
                guard arguments[0] == "serve" || !damage.isWithoutData else {
                    #expect(outcome.code == 0 && outcome.output.contains("a header without its data"))
                    #expect(outcome.output.contains("refused: ") && outcome.output.contains(damage.sentence))
                    continue
                }
                Program.expectRefusal(outcome, status: 65, saying: [path, damage.sentence])
            }
        }
        #expect(!File.exists(directory.file("s")))
    }
}
