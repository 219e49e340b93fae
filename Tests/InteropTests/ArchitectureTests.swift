// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What `docs/ARCHITECTURE.md` and the documents that it hands details to say of the sources is so.
@Suite struct ArchitectureTests {
    private static let sources = Result { try SourceTree() }
    /// Modules of the project with Swift sources that are no module for tests.
    private static let modules: Set = ["BlockIO", "ImageFormats", "Crypto", "DiskStack", "NBDServer", "nbdecrypt"]

    // MARK: Modules

    @Test(arguments: modules)
    func `each module imports those of the project that the table names, and no other`(_ module: String) throws {
        let known = try #require(try Self.table()[module], "the table has no row for \(module)")
        let imported = try Self.sources.get().imports(of: module)
        #expect(imported.intersection(Self.modules) == known)
    }

    @Test(arguments: modules.subtracting(["nbdecrypt"]))
    func `libraries know no argument parser and start no program`(_ module: String) throws {
        let imported = try Self.sources.get().imports(of: module)
        #expect(imported.isDisjoint(with: ["ArgumentParser", "Subprocess"]))
        #expect(module == "NBDServer" || !imported.contains("Logging"), "only the server logs")
    }

    /// What each module knows, by its name.
    private static func table() throws -> [String: Set<String>] {
        var rows: [String: Set<String>] = [:]
        for cells in try Document("docs/ARCHITECTURE.md").rows where cells.count == 3 && cells[0].hasPrefix("`") {
            let name = cells[0].replacing("`", with: "")
            switch cells[2] {
            case "nobody": rows[name] = []
            case "all": rows[name] = modules.subtracting([name])
            default: rows[name] = Set(cells[2].components(separatedBy: ", "))
            }
        }
        return rows
    }

    // MARK: Names

    @Test(arguments: ["docs/ARCHITECTURE.md", "docs/threads.md"])
    func `every type and member that is named exists`(_ path: String) throws {
        let sources = try Self.sources.get()
        let names = try Document(path).code.filter { $0.wholeMatch(of: /[A-Z]\w*(\.\w+)*/) != nil }
        #expect(names.count > 20)
        for name in names { #expect(sources.has(name), "\(path) names \(name)") }
    }

    @Test func `the error types are those that are named, and no other`() throws {
        let text = try Document("docs/ARCHITECTURE.md").text
        let begin = try #require(text.range(of: "**Errors.**"))
        let end = try #require(text[begin.upperBound...].range(of: "\n\n"))
        let named = Document.code(in: String(text[begin.upperBound..<end.lowerBound]))
        #expect(Set(named) == Set(try Self.sources.get().errorTypes))
    }

    @Test func `the locks are those of the table, and no other`() throws {
        let rows = try Document("docs/threads.md").rows.filter { $0.count == 2 && $0[0].hasPrefix("`") }
        let named = rows.flatMap { Document.code(in: $0[0]) }
        let found = try Self.sources.get().locks
        #expect(found.count > 20)
        #expect(named.sorted() == found.sorted())
    }

    @Test func `the limits are those of the sources`() throws {
        let sources = try Self.sources.get()
        let rows = try Document("docs/limits.md").rows.filter { $0.count == 3 && $0[2].hasPrefix("`") }
        #expect(rows.count > 30)
        for constant in rows.flatMap({ Document.code(in: $0[2]) }) {
            #expect(sources.says(constant), "no source says \(constant)")
        }
    }

    // MARK: The documents themselves

    @Test func `the architecture fits two pages`() throws {
        let text = try Document("docs/ARCHITECTURE.md").text
        #expect(text.count <= 9000)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count <= 120 && lines.allSatisfy { $0.count <= 120 })
    }

    @Test func `every file that a document links to exists`() throws {
        for document in try Document.all {
            for link in document.links {
                #expect(FileManager.default.fileExists(atPath: link), "\(document.path) links to \(link)")
            }
        }
    }
}
