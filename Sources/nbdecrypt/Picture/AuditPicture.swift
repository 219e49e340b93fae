// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import ImageFormats

/// What an audit has found, drawn: a map of each file, and of the disk in it, as SVG that needs nothing else.
///
/// There are as many cells as ``ImageAudit/mapCells`` and half of that for containers, however large the image is.
struct AuditPicture {
    private static let columns = 64
    private static let (cellWidth, cellHeight) = (14, 14)
    private static let margin = 24
    private static let width = columns * cellWidth + 2 * margin
    private static let lineHeight = 20
    /// Names of files are cut here, in characters.
    private static let longestName = 256

    private let verdict: String
    private let layers: [AuditedLayer]
    private let containerCount: Int

    init(_ audit: ImageAudit, verdict: AuditReport.Verdict) {
        self.verdict = verdict.rawValue
        layers = (audit.layers + audit.disk.containers).filter { !$0.maps.isEmpty }
        containerCount = audit.disk.containers.count { $0.maps.isEmpty }
    }

    /// The document.
    var svg: String {
        var body: [String] = []
        var y = Self.margin
        func text(_ text: String, _ style: String = "") {
            y += Self.lineHeight
            body.append(Self.text(text, x: Self.margin, y: y - 5, style))
        }
        for layer in layers {
            let name = ShownText.printable(layer.name, maximumLength: Self.longestName)
            for map in layer.maps {
                let place = map.subject == .file ? "" : "the disk in "
                text("\(place)\(name)", "name")
                text(
                    "\(layer.format), \(layer.isEncrypted ? "encrypted" : "not encrypted"); \(map.size) bytes\(ByteText.rounded(map.size)), "
                        + "a cell is \(ByteText.short(map.cellSize))")
                let cells = map.cells
                body += Self.grid(cells, y: y)
                y += Self.rows(cells.count) * Self.cellHeight + 6
                body += Self.legend(map, cells, &y)
                y += Self.margin
            }
        }
        if containerCount > 0 { text("\(containerCount) more containers on the disk are not drawn") }
        text("Verdict: \(verdict). A cell shows what is wrong in it, or else what most of what it stores is.")
        return document(body, height: y + Self.margin)
    }

    private func document(_ body: [String], height: Int) -> String {
        let name = layers.first.map { Self.escaped(ShownText.printable($0.name, maximumLength: Self.longestName)) }
        let head = [
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"\(Self.width)\" height=\"\(height)\" "
                + "viewBox=\"0 0 \(Self.width) \(height)\">",
            "<title>What lies where in \(name ?? "an image")</title>",
        ]
        let paper = "<rect class=\"paper\" width=\"\(Self.width)\" height=\"\(height)\"/>"
        return (head + PictureStyle.definitions + [paper] + body + ["</svg>"]).joined(separator: "\n")
    }

    // MARK: Cells

    private static func rows(_ cellCount: Int) -> Int { (cellCount + columns - 1) / columns }

    private static func grid(_ cells: [AuditMap.Cell], y top: Int) -> [String] {
        var lines: [String] = []
        var start = 0
        while start < cells.count {
            let end = run(of: cells, from: start)
            let (column, row) = (start % columns, start / columns)
            let range = cells[start].range.offset..<cells[end - 1].range.end
            lines.append(
                "<rect x=\"\(margin + column * cellWidth)\" y=\"\(top + row * cellHeight)\" "
                    + "width=\"\((end - start) * cellWidth)\" height=\"\(cellHeight)\" \(PictureStyle.fill(cells[start].kind))>"
                    + "<title>\(title(cells[start..<end], range))</title></rect>")
            start = end
        }
        let width = min(cells.count, columns) * cellWidth
        lines.append(
            "<rect class=\"frame\" x=\"\(margin)\" y=\"\(top)\" width=\"\(width)\" height=\"\(rows(cells.count) * cellHeight)\"/>"
        )
        return lines
    }

    /// The end of the cells in one row that hold the same, and nothing but that.
    private static func run(of cells: [AuditMap.Cell], from start: Int) -> Int {
        let kind = cells[start].kind
        func isPure(_ cell: AuditMap.Cell) -> Bool { cell[kind] == cell.range.length && cell.faultCount == 0 }
        var end = start + 1
        guard isPure(cells[start]) else { return end }
        while end < cells.count, end % columns != 0, cells[end].kind == kind, isPure(cells[end]) { end += 1 }
        return end
    }

    /// For the tool tip.
    private static func title(_ cells: ArraySlice<AuditMap.Cell>, _ range: Range<UInt64>) -> String {
        let parts = AuditMap.Kind.allCases.compactMap { kind -> String? in
            let bytes = cells.reduce(0) { $0 + $1[kind] }
            return bytes == 0 ? nil : "\(PictureStyle.shortName(kind)) \(bytes)"
        }
        let faults = cells.reduce(0) { $0 + $1.faultCount }
        let told = faults == 0 ? "" : "; \(CountText.of(faults, "fault"))"
        return "bytes \(range.lowerBound) to \(range.upperBound - 1): \(parts.joined(separator: ", "))\(told)"
    }

    // MARK: Text

    /// What there is of it, in columns.
    private static func legend(_ map: AuditMap, _ cells: [AuditMap.Cell], _ y: inout Int) -> [String] {
        var lines: [String] = []
        let faults = map.faultCount
        let shown = AuditMap.Kind.allCases.compactMap { kind -> (AuditMap.Kind, UInt64)? in
            let bytes = cells.reduce(0) { $0 + $1[kind] }
            return bytes > 0 || kind == .damaged && faults > 0 ? (kind, bytes) : nil
        }
        let columnWidth = columns * cellWidth / 2
        for (index, (kind, bytes)) in shown.enumerated() {
            let x = margin + index % 2 * columnWidth
            if index % 2 == 0 { y += lineHeight }
            lines.append(
                "<rect class=\"swatch\" x=\"\(x)\" y=\"\(y - 16)\" width=\"14\" height=\"14\" \(PictureStyle.fill(kind))/>"
            )
            let more = kind == .damaged && faults > 0 ? ", \(CountText.of(faults, "fault"))" : ""
            lines.append(
                text(
                    "\(PictureStyle.name(kind, of: map.subject)): \(bytes) bytes\(ByteText.rounded(bytes))\(more)",
                    x: x + 22,
                    y: y - 5))
        }
        return lines
    }

    private static func text(_ text: String, x: Int, y: Int, _ style: String = "") -> String {
        "<text x=\"\(x)\" y=\"\(y)\"\(style.isEmpty ? "" : " class=\"\(style)\"")>\(escaped(text))</text>"
    }

    /// As XML has it between tags and in quotes.
    static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
            .replacing("\"", with: "&quot;").replacing("'", with: "&apos;")
    }
}
