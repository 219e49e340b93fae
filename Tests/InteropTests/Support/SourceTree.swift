// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The sources of the program as text, for tests that compare documents with them.
struct SourceTree: Sendable {
    /// A line with the types that it stands in, by their names, outermost first.
    private struct Line {
        let owner: [String]
        let text: Substring
    }

    /// The text of each file by its path from Sources, but for modules for tests.
    private let files: [String: String]
    /// Directories in Sources.
    private let modules: Set<String>
    private let lines: [Line]
    private let types: Set<String>

    init() throws {
        let root = "\(Program.root)/Sources"
        let names = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
        var files: [String: String] = [:]
        for name in names where name.hasSuffix(".swift") || name.hasSuffix(".c") {
            guard !name.contains("TestSupport/") else { continue }
            files[name] = try File.text("\(root)/\(name)")
        }
        self.files = files
        modules = Set(names.map { String($0.prefix { $0 != "/" }) })
        lines = files.filter { $0.key.hasSuffix(".swift") }.flatMap { Self.lines(of: $0.value) }
        types = Set(lines.compactMap { Self.type(in: $0.text).map(String.init) })
    }

    /// The names of all modules that the files of one import.
    func imports(of module: String) -> Set<String> {
        Set(
            files.filter { $0.key.hasPrefix("\(module)/") }.values.flatMap { text in
                text.matches(of: /(?m)^(?:\w+ )?import (\w+)$/).map { String($0.1) }
            })
    }

    /// Is there such a type or module, or such a member of a type?
    func has(_ name: String) -> Bool {
        let parts = name.split(separator: ".").map(String.init)
        if modules.contains(name) { return true }
        guard let last = parts.last, types.isSuperset(of: parts.dropLast()) else { return false }
        if types.contains(last) { return true }
        guard parts.count > 1 else { return false }
        return lines.contains { line in
            line.owner.contains(parts[parts.count - 2])
                && line.text.matches(of: /\b(?:func|var|let|case) (\w+)/).contains { $0.1 == last }
        }
    }

    /// Does a source have this declaration, with this value? "Type.constant = value", or as it is in C.
    func says(_ constant: String) -> Bool {
        let parts = constant.split(separator: ".", maxSplits: 1)
        guard let type = parts.first, parts.count == 2, types.contains(String(type)) else {
            return files.values.contains { $0.contains(constant) }
        }
        return lines.contains { line in
            line.owner.contains(String(type))
                && ["let ", "var ", "init("].contains { prefix in
                    line.text.ranges(of: "\(prefix)\(parts[1])").contains { range in
                        // The whole value, not the start of one.
                        line.text[range.upperBound...].first.map { " ,)".contains($0) } ?? true
                    }
                }
        }
    }

    /// Properties that are locks: "Type.property".
    var locks: [String] {
        lines.filter { !$0.owner.isEmpty && $0.owner != ["Locked"] }.compactMap { line in
            let declaration = line.text.firstMatch(
                of: /^ *(?:\w+ )*let (\w+)(?:: | = )(?:Locked|Mutex|NSLock|OSAllocatedUnfairLock|pthread_mutex_t)\b/)
            return declaration.map { (line.owner + [String($0.1)]).joined(separator: ".") }
        }
    }

    /// Types that are errors: "Outer.Inner".
    var errorTypes: [String] {
        lines.compactMap { line in
            line.text.firstMatch(of: /^ *(?:\w+ )*(?:struct|enum|class) (\w+): (?:\w+, )*Error\b/).map {
                (line.owner + [String($0.1)]).joined(separator: ".")
            }
        }
    }

    private static func lines(of text: String) -> [Line] {
        var owner: [(indent: Int, name: String)] = []
        return text.split(separator: "\n").map { line in
            let indent = line.prefix { $0 == " " }.count
            if line.contains(where: { $0 != " " }) { owner.removeAll { $0.indent >= indent } }
            let found = Line(owner: owner.map(\.name), text: line)
            if let name = type(in: line) ?? line.firstMatch(of: /^ *(?:\w+ )*extension ([\w.]+)/)?.1 {
                owner.append((indent, String(name)))
            }
            return found
        }
    }

    /// The type that a line declares.
    private static func type(in line: Substring) -> Substring? {
        line.firstMatch(of: /^ *(?:@\w+ )*(?:\w+ )*(?:struct|class|enum|protocol|actor|typealias) (\w+)/)?.1
    }
}
