// SPDX-License-Identifier: Apache-2.0

/// What the tables of an image say of a cluster, or of a part of one.
enum MappedCluster: Equatable {
    /// Nothing is stored; reads as the backing device has it, or as zeros.
    case unallocated
    /// Reads as zeros; a cluster may be reserved for it all the same.
    case zero(isReserved: Bool)
    /// Stored at this place.
    case data(HostOffset)
    /// Stored in compressed form.
    case compressed(CompressedCluster)
    /// An entry that the format does not allow; the text says why.
    case invalid(String)
}

/// Where the compressed form of a cluster is.
struct CompressedCluster: Hashable, Sendable {
    /// Need not be aligned.
    let offset: HostOffset
    /// In bytes; when it is not exact, the compressed form may end earlier, and so may the file.
    let length: Int
    /// Does the format record the length to the byte?
    let isExact: Bool
}
