// SPDX-License-Identifier: Apache-2.0

/// A section of the text in which LVM describes a volume group: names, and what they stand for.
struct LVMSection: Sendable {
    /// What a name stands for.
    enum Value: Sendable {
        case section(LVMSection)
        case list([Scalar])
        case scalar(Scalar)
    }

    /// A single value.
    enum Scalar: Sendable, Equatable {
        case string(String)
        case integer(UInt64)
        /// Anything else, which nothing that we look at may be: a fraction, a number below 0, a bare word.
        case other
    }

    /// In the order of the text.
    private(set) var entries: [(name: String, value: Value)] = []
    private var places: [String: Int] = [:]

    /// Adds an entry; false when the name is there already.
    mutating func append(_ name: String, _ value: Value) -> Bool {
        guard places.updateValue(entries.count, forKey: name) == nil else { return false }
        entries.append((name, value))
        return true
    }

    /// What `name` stands for.
    subscript(_ name: String) -> Value? { places[name].map { entries[$0].value } }
}
