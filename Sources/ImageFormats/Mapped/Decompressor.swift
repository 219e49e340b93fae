// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CDeflate
import CZstd

/// Unpacks compressed clusters; any number of threads may use it at the same time.
///
/// Success means that the output was filled exactly. Input after the end of the compressed form is ignored: nothing
/// records its exact length.
@safe
final class Decompressor: Sendable {
    private let algorithm: Qcow2Header.Compression
    private let pool = Locked<[Workspace]>([])

    init(_ algorithm: Qcow2Header.Compression) { self.algorithm = algorithm }

    /// Fills all of `output`.
    /// - Returns: why it cannot be filled; nil when it was.
    func decompress(_ input: RawSpan, into output: inout MutableRawSpan) -> String? {
        guard let workspace = pool.withLock({ $0.popLast() }) ?? Workspace(algorithm) else { return "no memory" }
        defer { pool.withLock { $0.append(workspace) } }
        return switch algorithm {
        case .deflate: workspace.inflate(input, into: &output)
        case .zstd: workspace.unpackZstd(input, into: &output)
        }
    }

    /// The memory that a library works in. The pool hands it to one thread at a time, which makes it safe to send.
    @safe
    private final class Workspace: @unchecked Sendable {
        private let deflate: OpaquePointer?
        private let zstd: OpaquePointer?

        init?(_ algorithm: Qcow2Header.Compression) {
            unsafe deflate = algorithm == .deflate ? unsafe libdeflate_alloc_decompressor() : nil
            unsafe zstd = algorithm == .zstd ? unsafe ZSTD_createDCtx() : nil
            guard unsafe deflate != nil || zstd != nil else { return nil }
        }

        deinit {
            unsafe libdeflate_free_decompressor(deflate)
            unsafe ZSTD_freeDCtx(zstd)
        }

        /// A raw deflate stream (RFC 1951).
        func inflate(_ input: RawSpan, into output: inout MutableRawSpan) -> String? {
            let result = unsafe output.withUnsafeMutableBytes { output in
                unsafe input.withUnsafeBytes { input in
                    unsafe libdeflate_deflate_decompress(
                        deflate, input.baseAddress, input.count, output.baseAddress, output.count, nil)
                }
            }
            switch result {
            case LIBDEFLATE_SUCCESS: return nil
            case LIBDEFLATE_SHORT_OUTPUT: return "the deflate data ends before the cluster is full"
            case LIBDEFLATE_INSUFFICIENT_SPACE: return "the deflate data is larger than a cluster"
            default: return "the deflate data is damaged"
            }
        }

        /// One or several zstd frames (RFC 8878), one after the other. Unpacked frame by frame in one call each, so
        /// that no window, whose size the frame chooses, has to be allocated.
        func unpackZstd(_ input: RawSpan, into output: inout MutableRawSpan) -> String? {
            unsafe output.withUnsafeMutableBytes { output in
                unsafe input.withUnsafeBytes { input in
                    var read = 0
                    var written = 0
                    while written < output.count {
                        guard read < input.count else { return "the zstd data ends before the cluster is full" }
                        let rest = unsafe UnsafeRawBufferPointer(rebasing: input[read...])
                        let target = unsafe UnsafeMutableRawBufferPointer(rebasing: output[written...])
                        let length = unsafe ZSTD_findFrameCompressedSize(rest.baseAddress, rest.count)
                        guard ZSTD_isError(length) == 0 else { return "the zstd data is damaged" }
                        let count = unsafe ZSTD_decompressDCtx(
                            zstd, target.baseAddress, target.count, rest.baseAddress, length)
                        guard ZSTD_isError(count) == 0 else { return "the zstd data is damaged" }
                        read += length
                        written += count
                    }
                    return nil
                }
            }
        }
    }
}
