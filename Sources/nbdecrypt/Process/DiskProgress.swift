// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import DiskStack
import Dispatch
import FoundationEssentials
import Glibc
import SystemPackage

/// How a person, or a program, is told how far a copy is, or what clients have done with a disk.
enum ProgressStyle: String, CaseIterable, ExpressibleByArgument {
    /// A map of the disk on a terminal, else lines.
    case auto
    /// A bar and a map of the disk that change in place.
    case map
    /// A line now and then.
    case lines
    /// A line of JSON each second.
    case json
    case none

    /// What it comes to here.
    var resolved: ProgressStyle {
        self == .auto ? (isatty(FileDescriptor.standardError.rawValue) == 1 ? .map : .lines) : self
    }
}

/// Tells on standard error how far a copy is, or what clients have done with a disk, as long as this exists.
final class DiskProgress: Sendable {
    /// Of the map.
    private static let (width, height) = (64, 4)

    private let phase: String
    private let style: ProgressStyle
    let copy: CopyProgress
    private let started = ContinuousClock.now
    private let queue = DispatchQueue(label: "nbdecrypt.progress")
    private let screen = Locked(Screen())

    private struct Screen {
        /// Is there something on the terminal that is to be replaced?
        var isUsed = false
        var isOver = false
    }

    /// - Parameters:
    ///   - phase: what is done, e.g. "copying".
    ///   - size: of the disk, in bytes.
    init(_ phase: String, size: UInt64, _ style: ProgressStyle) {
        self.phase = phase
        self.style = style.resolved
        copy = CopyProgress(size: size, cellCount: Self.width * Self.height)
        switch self.style {
        case .none, .auto: return
        case .map: tell(every: .milliseconds(500))
        case .json: tell(every: .seconds(1))
        case .lines: tell(every: .seconds(20))
        }
    }

    /// Takes the map away; JSON says the end.
    func end() {
        screen.withLock { screen in
            if screen.isUsed { LineQueue.standardError.add(Self.back) }
            screen = Screen(isUsed: false, isOver: true)
        }
        if style == .json { LineQueue.standardError.add("\(json)\n") }
    }

    private func tell(every interval: DispatchTimeInterval) {
        queue.asyncAfter(deadline: .now() + interval) { [weak self] in
            guard let self, !screen.withLock({ $0.isOver }) else { return }
            tell()
            tell(every: interval)
        }
    }

    private func tell() {
        switch style {
        case .none, .auto: return
        case .lines: Process.printError(line)
        case .json: LineQueue.standardError.add("\(json)\n")
        case .map:
            screen.withLock { screen in
                guard !screen.isOver else { return }
                LineQueue.standardError.add(
                    (screen.isUsed ? Self.back : "") + ([line] + map).joined(separator: "\n") + "\n")
                screen.isUsed = true
            }
        }
    }

    /// To the first of the lines, and clears all below.
    private static let back = "\u{1B}[\(height + 1)F\u{1B}[J"

    private var seconds: Double {
        let (whole, parts) = (ContinuousClock.now - started).components
        return Double(whole) + Double(parts) / 1e18
    }

    private var line: String {
        let total = copy.total
        let rate = Double(total.done) / max(seconds, 0.001)
        let percent = copy.size == 0 ? 100 : Int(Double(total.done) / Double(copy.size) * 100)
        let left = rate > 0 ? Self.clock(Double(copy.size - min(total.done, copy.size)) / rate) : "?"
        let unreadable = total[.unreadable] == 0 ? "" : ", \(ByteText.short(total[.unreadable])) unreadable"
        let written = total[.written] == 0 ? "" : ", \(ByteText.short(total[.written])) written"
        return
            "\(phase): \(percent) % of \(ByteText.short(copy.size)), \(ByteText.short(UInt64(rate)))/s, \(left) left\(unreadable)\(written)"
    }

    /// A few lines of the disk from its start to its end: # data, - zeros, ! unreadable, w written, . still to do.
    private var map: [String] {
        var cells = copy.map.map { length, amounts -> Character in
            if amounts[.unreadable] > 0 { return "!" }
            if amounts[.written] > 0 { return "w" }
            guard amounts.done == length else { return "." }
            return amounts[.data] > 0 ? "#" : "-"
        }
        cells += [Character](repeating: " ", count: max(0, Self.width * Self.height - cells.count))
        return (0..<Self.height).map { "  " + String(cells[$0 * Self.width..<($0 + 1) * Self.width]) }
    }

    private static func clock(_ seconds: Double) -> String {
        let whole = Int(min(seconds, 1e8))
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return whole >= 3600
            ? "\(whole / 3600):\(two(whole / 60 % 60)):\(two(whole % 60))" : "\(whole / 60):\(two(whole % 60))"
    }

    private struct State: Encodable {
        let phase: String
        let size, done, data, zeros, unreadable, written: UInt64
        let seconds: Double
    }

    private var json: String {
        let total = copy.total
        let state = State(
            phase: phase, size: copy.size, done: total.done, data: total[.data], zeros: total[.zeros],
            unreadable: total[.unreadable], written: total[.written], seconds: (seconds * 1000).rounded() / 1000)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // Numbers and a word: there is nothing that JSON cannot hold.
        return (try? encoder.encode(state)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }
}
