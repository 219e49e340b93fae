// SPDX-License-Identifier: Apache-2.0

/// Options of QEMU's programs, as in "driver=qcow2,file.filename=a".
package enum QEMUOption {
    /// A value in them: a comma ends it unless it is doubled.
    package static func value(_ text: String) -> String { text.replacing(",", with: ",,") }
}
