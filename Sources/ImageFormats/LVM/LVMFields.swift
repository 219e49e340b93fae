// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A section of the text with accessors that check: what is not there, or is something else, is named in an error.
struct LVMFields {
    /// Names of sections, with slashes between them; for messages.
    let path: String
    /// Where the text begins on its device, in bytes.
    let place: UInt64
    private let section: LVMSection

    init(_ section: LVMSection, path: String, place: UInt64) {
        self.section = section
        self.path = path
        self.place = place
    }

    /// What `name` must be, and what was found.
    func fault(_ name: String, found: String, allowed: String) -> FormatError {
        .damaged(
            "LVM metadata: \(ShownText.printable("\(path)/\(name)", maximumLength: 300))", at: place,
            found: ShownText.printable(found, maximumLength: 200), allowed: allowed)
    }

    /// A number within a range.
    func integer(_ name: String, in range: ClosedRange<UInt64>) throws(FormatError) -> UInt64 {
        guard case .scalar(.integer(let value)) = section[name], range.contains(value) else {
            throw fault(name, found: shown(name), allowed: "a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// A number within a range; nil when there is none.
    func optionalInteger(_ name: String, in range: ClosedRange<UInt64>) throws(FormatError) -> UInt64? {
        section[name] == nil ? nil : try integer(name, in: range)
    }

    /// A string.
    func string(_ name: String) throws(FormatError) -> String {
        guard case .scalar(.string(let value)) = section[name] else {
            throw fault(name, found: shown(name), allowed: "a string")
        }
        return value
    }

    /// A string; nil when there is none.
    func optionalString(_ name: String) throws(FormatError) -> String? {
        section[name] == nil ? nil : try string(name)
    }

    /// An identifier, without its dashes.
    func identifier(_ name: String) throws(FormatError) -> String {
        let text = try string(name)
        guard let value = LVMName.identifier(text) else {
            throw fault(name, found: "\"\(text)\"", allowed: "32 letters and digits in groups")
        }
        return value
    }

    /// A list of strings, or a single one; none when the name is not there.
    func strings(_ name: String) throws(FormatError) -> [String] {
        var strings: [String] = []
        for value in try list(name) {
            guard case .string(let string) = value else {
                throw fault(name, found: "a value that is no string", allowed: "strings")
            }
            strings.append(string)
        }
        return strings
    }

    /// A list, or a single value; none when the name is not there.
    func list(_ name: String) throws(FormatError) -> [LVMSection.Scalar] {
        switch section[name] {
        case .list(let values): return values
        case .scalar(let value): return [value]
        case .none: return []
        case .section: throw fault(name, found: "a section", allowed: "a list")
        }
    }

    /// The sections within a section, with their names; none when it is not there.
    func sections(_ name: String) throws(FormatError) -> [(name: String, fields: LVMFields)] {
        switch section[name] {
        case .section(let inner): return inner.fields(path: "\(path)/\(name)", place: place)
        case .none: return []
        default: throw fault(name, found: shown(name), allowed: "a section")
        }
    }

    /// All sections in this one.
    var sections: [(name: String, fields: LVMFields)] { section.fields(path: path, place: place) }

    /// All strings in it that are not in sections, under their names.
    var allStrings: [(name: String, string: String)] {
        section.entries.flatMap { name, value -> [(name: String, string: String)] in
            let values: [LVMSection.Scalar] =
                switch value {
                case .list(let values): values
                case .scalar(let value): [value]
                case .section: []
                }
            return values.compactMap { value in
                if case .string(let string) = value { (name, string) } else { nil }
            }
        }
    }

    private func shown(_ name: String) -> String {
        switch section[name] {
        case .none: "nothing"
        case .section: "a section"
        case .list: "a list"
        case .scalar(.string(let text)): "\"\(text)\""
        case .scalar(.integer(let value)): "\(value)"
        case .scalar(.other): "another value"
        }
    }
}

extension LVMSection {
    /// The sections in this one, in their order.
    fileprivate func fields(path: String, place: UInt64) -> [(name: String, fields: LVMFields)] {
        entries.compactMap { name, value in
            guard case .section(let section) = value else { return nil }
            return (name, LVMFields(section, path: "\(path)/\(name)", place: place))
        }
    }
}
