// SPDX-License-Identifier: Apache-2.0

import ImageFormats

/// How each kind of bytes is drawn and called: a colour and a hatch, so that neither colours nor hatches have to be told apart
/// alone. The colours are those of Okabe and Ito, which most people with a colour vision deficiency tell apart.
enum PictureStyle {
    /// A colour, and lines or dots on it, within 7 by 7.
    private static func look(_ kind: AuditMap.Kind) -> (colour: String, path: String) {
        switch kind {
        case .damaged: ("#d55e00", "M0 0L7 7M7 0L0 7")
        case .exposed: ("#cc79a7", "M0 7L7 0")
        case .lost: ("#e69f00", "M2 3.5H5")
        case .shared: ("#009e73", "M0 3.5H7")
        case .encrypted: ("#0072b2", "")
        case .plain: ("#f0e442", "M3.5 0V7")
        case .compressed: ("#56b4e9", "M0 0L7 7")
        case .keyslots: ("#999999", "M0 3.5H7M3.5 0V7")
        case .tables: ("#999999", "")
        case .zeros: ("#eeeeee", "M3 3.5H4")
        case .free: ("none", "")
        case .unseen: ("#ffffff", "M0 0L7 7M3 0L7 4M0 4L3 7")
        }
    }

    /// The attributes of what is filled with it. What is free is empty, and has a tool tip all the same.
    static func fill(_ kind: AuditMap.Kind) -> String {
        kind == .free ? "fill=\"none\" pointer-events=\"all\"" : "fill=\"url(#\(shortName(kind)))\""
    }

    /// One word.
    static func shortName(_ kind: AuditMap.Kind) -> String { "\(kind)" }

    /// For the legend.
    static func name(_ kind: AuditMap.Kind, of subject: AuditMap.Subject) -> String {
        switch kind {
        case .damaged: "damaged"
        case .exposed: "compressed, in the clear"
        case .lost: "lost: marked as used, used by nothing"
        case .shared: "shared with snapshots"
        case .encrypted: "encrypted"
        case .plain: "not encrypted"
        case .compressed: "compressed, not encrypted"
        case .keyslots: "LUKS keyslots"
        case .tables: "headers and tables"
        case .zeros: "marked as zeros"
        case .free: subject == .file ? "free" : "not allocated here"
        case .unseen: "not examined"
        }
    }

    /// Of the document: styles for light and dark, and the hatches.
    static var definitions: [String] {
        let style = """
            <style>
            .paper{fill:#ffffff}
            text{fill:#222222;font:13px sans-serif}
            .name{font-weight:bold}
            .frame,.swatch{stroke:#777777}
            .frame{fill:none}
            @media(prefers-color-scheme:dark){.paper{fill:#1b1b1b}text{fill:#dddddd}}
            </style>
            <defs>
            """
        let patterns = AuditMap.Kind.allCases.filter { $0 != .free }.map { kind in
            let look = look(kind)
            let hatch =
                look.path.isEmpty
                ? "" : "<path d=\"\(look.path)\" stroke=\"#000000\" stroke-width=\"1\" fill=\"none\"/>"
            return "<pattern id=\"\(shortName(kind))\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\">"
                + "<rect width=\"7\" height=\"7\" fill=\"\(look.colour)\"/>\(hatch)</pattern>"
        }
        return [style] + patterns + ["</defs>"]
    }
}
