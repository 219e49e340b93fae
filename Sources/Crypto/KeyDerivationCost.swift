// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

extension KeyDerivation: CustomStringConvertible {
    /// E.g. "argon2id, time 4, memory 1048576 KiB, 4 threads" or "pbkdf2-sha256, 1000 iterations".
    public var description: String {
        switch function {
        case .pbkdf2(let hash, let iterations): "pbkdf2-\(shownHash(hash)), \(iterations) iterations"
        case .argon2i(let time, let memory, let lanes):
            "argon2i, time \(time), memory \(memory) KiB, \(lanes) \(lanes == 1 ? "thread" : "threads")"
        case .argon2id(let time, let memory, let lanes):
            "argon2id, time \(time), memory \(memory) KiB, \(lanes) \(lanes == 1 ? "thread" : "threads")"
        }
    }

    /// A known name as it is, another one so that it can be shown.
    private func shownHash(_ name: String) -> String {
        (try? HashAlgorithm(name))?.description ?? ShownText.quoted(name)
    }

    /// About how long it takes to derive `count` bytes, in nanoseconds: to try the cheapest keyslot first, and to refuse
    /// what would take hours in all.
    ///
    /// Saturates: no value that an image can have traps.
    public func cost(count: Int) -> UInt64 {
        switch function {
        case .pbkdf2(let hash, let iterations):
            // 0.13 to 0.8 µs, by hash; all of them for each digest that the key is put together from.
            let size = (try? HashAlgorithm(hash))?.digestSize ?? count
            let digests = UInt64(max(count, 1) + size - 1) / UInt64(max(size, 1))
            return (UInt64(iterations) * 300).saturatingProduct(max(digests, 1))
        case .argon2i(let time, let memory, let lanes), .argon2id(let time, let memory, let lanes):
            // About a microsecond for each KiB and pass, in as many threads as there are lanes and processors.
            return UInt64(time).saturatingProduct(UInt64(memory)).saturatingProduct(1000)
                / UInt64(min(max(lanes, 1), Self.processors))
        }
    }

    /// Checks what the image asks for, before anything is computed.
    ///
    /// - Throws: ``UnlockError`` (refused) when a value makes no sense or is above its limit: what is asked, what is
    ///   allowed, and the option that allows more.
    public func check(_ limits: KeyDerivationLimits) throws(UnlockError) {
        switch function {
        case .pbkdf2(let hash, let iterations):
            do { _ = try HashAlgorithm(hash) } catch { throw .refused("key derivation \(self): \(error)") }
            guard iterations > 0 else {
                throw .refused("key derivation \(self): found no iterations, allowed 1 and more; the image is damaged")
            }
            guard iterations <= limits.iterations else {
                throw .refused(
                    "key derivation \(self): allowed \(limits.iterations) iterations; if the image is to be trusted, "
                        + "allow more with \(remedy: .derivationIterations)")
            }
        case .argon2i(let time, let memory, let lanes), .argon2id(let time, let memory, let lanes):
            try checkArgon2(time: time, memory: memory, lanes: lanes, limits)
        }
    }

    private func checkArgon2(
        time: UInt32, memory: UInt32, lanes: UInt32, _ limits: KeyDerivationLimits
    ) throws(UnlockError) {
        guard time > 0, (1...KeyDerivationLimits.lanes).contains(lanes), UInt64(memory) >= 8 * UInt64(lanes) else {
            throw .refused(
                "key derivation \(self): allowed time 1 and more, 1 to \(KeyDerivationLimits.lanes) threads and 8 KiB "
                    + "for each and more; the image is damaged")
        }
        guard salt.count >= 8 else {
            throw .refused(
                "key derivation \(self): found a salt of \(salt.count) bytes, allowed 8 and more; the image is damaged")
        }
        let bytes = UInt64(memory) * 1024
        guard bytes <= limits.memory else {
            throw .refused(
                "key derivation \(self): allowed \(limits.memory / 1024) KiB of memory; if the image is to be "
                    + "trusted, allow more with \(remedy: .derivationMemory)")
        }
        guard bytes.saturatingProduct(UInt64(time)) <= limits.argonWork else {
            throw .refused(
                "key derivation \(self): allowed \(limits.argonWork / 1024) KiB of memory times passes; if the image "
                    + "is to be trusted, allow more with \(remedy: .derivationWork)")
        }
    }
}

extension UInt64 {
    /// The product, or the largest number where it is larger.
    fileprivate func saturatingProduct(_ other: UInt64) -> UInt64 {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}
