// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats

/// What has become of an internal snapshot of an old image.
struct MigratedSnapshot: Encodable {
    /// As QEMU names it.
    let id: String
    let name: String
    /// Of the machine that ran, in bytes; it is not copied. 0: the snapshot has none.
    let vmStateSize: UInt64
    let copy: MigrationReport

    private enum CodingKeys: String, CodingKey {
        case id, name, vmStateSize
    }

    init(_ snapshot: Qcow2Snapshot, _ copy: MigrationReport) {
        id = snapshot.id
        name = snapshot.name
        vmStateSize = snapshot.vmStateSize
        self.copy = copy
    }

    /// With the members of ``copy`` beside its own.
    func encode(to encoder: any Encoder) throws {
        try copy.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(id, forKey: .id)
        try container.encode(name, forKey: .name)
        try container.encode(vmStateSize, forKey: .vmStateSize)
    }

    /// For people.
    var line: String {
        let state =
            vmStateSize == 0 ? "" : "; the state of the machine (\(ByteText.short(vmStateSize))) is not copied"
        return "\(ShownText.quoted(name)) (id \(id)): \(copy.line)\(state)"
    }
}
