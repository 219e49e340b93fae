// SPDX-License-Identifier: Apache-2.0

import BlockIO
import SystemPackage

/// What a new image stands on, and how it divides its disk.
struct NewBase {
    /// The paths of the new images below, the nearest first; all are in the directory of the image. Not empty.
    let paths: [String]
    /// A cluster in bytes, as in the old image: what is stored there can then be stored here, and no more.
    let clusterSize: UInt64
    /// Are clusters allocated in 32 parts?
    let hasSubclusters: Bool

    /// The name that is written into the image: it leads from there to the next image, wherever both are moved.
    var name: String {
        let name = FilePath(paths[0]).lastComponent?.string ?? paths[0]
        // To QEMU, what is before a colon is a protocol if no slash comes before.
        return name.contains(":") ? "./\(name)" : name
    }

    /// What the image may open: the files below, and nothing else.
    var references: FileReferences {
        FileReferences(.deny, allowed: paths.map { FilePath(Process.absolutePath($0)) })
    }

    /// Options of qemu-img create for what is the same in the old image.
    var options: [String] { ["cluster_size=\(clusterSize)"] + (hasSubclusters ? ["extended_l2=on"] : []) }
}
