// SPDX-License-Identifier: Apache-2.0

import BlockIO
import SystemPackage

/// The name of a file in an image: a path, a protocol or a description in JSON.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzReferenceNames(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    let reference = FileReference(bytes: input, shown: ShownText.printable(String(decoding: input, as: UTF8.self)))
    do { check(try ReferenceName(reference)) } catch { check(error) }
    do { check(try ReferenceName(ofDataFile: reference)) } catch { check(error) }
    return 0
}

/// What everything behind it relies on: the path names one file, and can be shown.
private func check(_ name: ReferenceName) {
    let text = name.path.string
    precondition(!text.isEmpty && text.utf8.count <= 1023 && !text.utf8.contains(0))
    precondition(ShownText.printable(text, maximumLength: 1023) == text)
}

private func check(_ refusal: ReferenceName.Refusal) {
    precondition(!refusal.reason.isEmpty && refusal.reason.utf8.count < 4096)
    precondition(ShownText.printable(refusal.reason, maximumLength: 4096) == refusal.reason)
    if case .rename(let path, _) = refusal.help { precondition(!path.isEmpty) }
}
