// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing

@Suite struct AuditLeakTests {
    private static func layer(_ name: String, encrypted: Bool) -> AuditedLayer {
        AuditedLayer(name: name, format: "qcow2", isEncrypted: encrypted)
    }

    @Test func `Layers that are all encrypted, or all not, do not leak`() {
        for isEncrypted in [false, true] {
            let layers = ["top", "middle", "base"].map { Self.layer($0, encrypted: isEncrypted) }
            #expect(AuditLeak.all(of: layers).isEmpty)
        }
        #expect(AuditLeak.all(of: []).isEmpty)
    }

    @Test func `A plain layer above or below an encrypted one leaks`() {
        let layers = [
            Self.layer("top", encrypted: false), Self.layer("middle", encrypted: true),
            Self.layer("base", encrypted: false),
        ]
        let leaks = AuditLeak.all(of: layers)
        #expect(leaks.map(\.layer) == [0, 2] && leaks.allSatisfy { $0.kind == .plaintextLayer })
        #expect(leaks.first?.description.contains("lies above the encrypted middle") == true)
        #expect(leaks.last?.description.contains("lies below the encrypted middle") == true)
    }

    @Test func `An overlay that holds nothing yet is named, too`() {
        var top = Self.layer("top", encrypted: false)
        top.storesData = false
        let leaks = AuditLeak.all(of: [top, Self.layer("base", encrypted: true)])
        #expect(leaks.count == 1 && leaks.first?.description.contains("holds nothing yet") == true)
    }

    @Test func `Compressed clusters leak in encrypted layers only`() {
        for isEncrypted in [false, true] {
            var layer = Self.layer("disk", encrypted: isEncrypted)
            layer.compressedClusterCount = 1
            layer.compressedClusterPlaces = [4096]
            let leaks = AuditLeak.all(of: [layer])
            #expect(leaks.count == (isEncrypted ? 1 : 0))
            #expect(leaks.allSatisfy { $0.kind == .compressedClusters && $0.places == [4096] && $0.clusterCount == 1 })
        }
    }

    @Test func `Ciphertext in a data file that is marked as raw is named`() {
        var layer = Self.layer("disk", encrypted: true)
        layer.hasRawDataFile = true
        #expect(AuditLeak.all(of: [layer]).map(\.kind) == [.ciphertextInRawFile])
        layer = Self.layer("disk", encrypted: false)
        layer.hasRawDataFile = true
        #expect(AuditLeak.all(of: [layer]).isEmpty)
    }
}
