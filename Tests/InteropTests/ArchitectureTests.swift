// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What the table of modules in `docs/ARCHITECTURE.md` says of who knows whom is so.
@Suite struct ArchitectureTests {
    /// Modules of the project with Swift sources that are no module for tests.
    private static let modules: Set = ["BlockIO", "ImageFormats", "Crypto", "DiskStack", "NBDServer", "nbdecrypt"]

    @Test(arguments: modules)
    func `each module imports those of the project that the table names, and no other`(_ module: String) throws {
        let known = try #require(try Self.table()[module], "the table has no row for \(module)")
        let imported = try Self.imports(of: module)
        #expect(imported.intersection(Self.modules) == known)
    }

    @Test(arguments: modules.subtracting(["nbdecrypt"]))
    func `libraries know no argument parser and start no program`(_ module: String) throws {
        let imported = try Self.imports(of: module)
        #expect(imported.isDisjoint(with: ["ArgumentParser", "Subprocess"]))
        #expect(module == "NBDServer" || !imported.contains("Logging"), "only the server logs")
    }

    /// What each module knows, by its name.
    private static func table() throws -> [String: Set<String>] {
        var rows: [String: Set<String>] = [:]
        for line in try File.text("\(Program.root)/docs/ARCHITECTURE.md").split(separator: "\n") {
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard line.hasPrefix("| `"), cells.count == 3 else { continue }
            let name = cells[0].replacing("`", with: "")
            switch cells[2] {
            case "nobody": rows[name] = []
            case "all": rows[name] = modules.subtracting([name])
            default: rows[name] = Set(cells[2].components(separatedBy: ", "))
            }
        }
        return rows
    }

    /// The names of all modules that the files of one import.
    private static func imports(of module: String) throws -> Set<String> {
        let directory = "\(Program.root)/Sources/\(module)"
        let files = try #require(FileManager.default.enumerator(atPath: directory)).compactMap { $0 as? String }
        var imports: Set<String> = []
        for file in files where file.hasSuffix(".swift") {
            for line in try File.text("\(directory)/\(file)").split(separator: "\n") {
                if let found = line.firstMatch(of: /^(?:public |package )?import (\w+)$/) {
                    imports.insert(String(found.1))
                }
            }
        }
        return imports
    }
}
