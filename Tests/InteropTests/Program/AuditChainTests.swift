// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Audits of chains, and before serving.
@Suite(.fewAtATime)
struct AuditChainTests {
    @Test func `a plain layer below an encrypted one is a leak, and serve --audit warns of it`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let secret = try directory.write("p", text: "secret")
        try await Tool.shell(
            """
            cd \(directory.path)
            qemu-img create -q -f qcow2 base.qcow2 1M
            qemu-io -c 'write -P 7 0 128k' base.qcow2
            qemu-img create -q -f qcow2 --object secret,id=s,file=p \
                -o encrypt.format=aes,encrypt.key-secret=s,backing_file=base.qcow2,backing_fmt=qcow2 top.qcow2
            """)
        let top = directory.file("top.qcow2")
        let outcome = try await Program.run(["audit", top, "--json"])
        #expect(outcome.code == 1, "\(outcome.errors)")
        #expect(outcome.output.contains("base.qcow2") && outcome.output.contains("\"verdict\" : \"leaks\""))
        let served = try await ServerUnderTest.run(
            ["serve", top, "--audit", "--passphrase-file", secret, "--socket", directory.file("s")], in: directory
        ) { _ in }
        #expect(served.errors.contains("layer"), "\(served.errors)")
        // Without permission to look, nobody can say that all is well.
        let alone = try await Program.run(["audit", top, "--references", "deny", "--json"])
        #expect(alone.code == 65 && alone.errors.contains("--references deny"), "\(alone.errors)")
        #expect(alone.output.contains("\"verdict\" : \"incomplete\""))
    }

    @Test(arguments: ["top.qcow2", "base.qcow2"])
    func `serve --audit refuses an image that is damaged, in any layer`(_ victim: String) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await Tool.shell(
            """
            cd \(directory.path)
            qemu-img create -q -f qcow2 base.qcow2 1M
            qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
            for image in base.qcow2 top.qcow2; do qemu-io -c 'write -P 7 0 128k' $image; done
            """)
        // The reference count of the first cluster.
        let editor = Qcow2Editor(path: directory.file(victim))
        let table = Int(try editor.long(at: 48))
        try editor.set(UInt16(0), at: Int(try editor.long(at: table)) + 2 * 5)
        let serve = ["serve", directory.file("top.qcow2"), "--socket", directory.file("s")]
        try await Program.expectRefusal(serve + ["--audit"], status: 65, saying: victim, "is damaged")
        try await ServerUnderTest.run(serve, in: directory) { _ in }
    }

    @Test func `a chain that leads back to itself, or to a damaged image, is damage`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await Tool.shell(
            """
            cd \(directory.path)
            qemu-img create -q -f qcow2 a.qcow2 1M
            qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2
            qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 c.qcow2
            qemu-img rebase -u -f qcow2 -b b.qcow2 -F qcow2 a.qcow2
            """)
        let loop = try await Program.run(["audit", directory.file("b.qcow2")])
        #expect(loop.code == 65 && loop.errors.contains("above itself in the chain"), "\(loop.errors)")
        try Qcow2Editor(path: directory.file("a.qcow2")).set(UInt32(65535), at: 20)
        let below = try await Program.run(["audit", directory.file("c.qcow2")])
        #expect(below.code == 65 && below.errors.contains("cluster_bits"), "\(below.errors)")
    }
}
