// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Glibc

/// Arguments as the system gives them. Swift replaces what is not UTF-8 in them, and another file would be opened or made.
enum ArgumentText {
    /// So many bytes of an argument are shown.
    private static let shownCount = 96

    /// The bytes of all of them, the name of the program first. To be called before anything changes them.
    static var ofProcess: [[UInt8]] {
        (0..<Int(CommandLine.argc)).map { index in
            guard let argument = unsafe CommandLine.unsafeArgv[index] else { return [] }
            return unsafe UnsafeRawBufferPointer(start: argument, count: strlen(argument)).map { $0 }
        }
    }

    /// What is to be said of the first argument that is not UTF-8; nil when there is none.
    ///
    /// - Parameter arguments: the name of the program first.
    static func refusal(_ arguments: [[UInt8]]) -> String? {
        for (number, argument) in arguments.enumerated().dropFirst()
        where String(validating: argument, as: UTF8.self) == nil {
            return
                "\(name(of: number, in: arguments)) is not text in UTF-8, and would be taken for another; rename the file, "
                + "or make a symbolic link to it, with a name in UTF-8"
        }
        return nil
    }

    /// The value of an option is not shown: it may be a command with a secret in it.
    private static func name(of number: Int, in arguments: [[UInt8]]) -> String {
        let (dash, equals) = (UInt8(ascii: "-"), UInt8(ascii: "="))
        if arguments[number].first == dash {
            return "argument \(number) (\(shown(arguments[number].prefix { $0 != equals })))"
        }
        let before = arguments[number - 1]
        return number > 1 && before.first == dash && before.count > 1 && !before.contains(equals)
            ? "argument \(number), behind \(shown(before[...]))"
            : "argument \(number) (\"\(shown(arguments[number][...]))\")"
    }

    private static func shown(_ bytes: ArraySlice<UInt8>) -> String {
        let text = bytes.prefix(shownCount).map { byte in
            (0x20..<0x7F).contains(byte) && byte != UInt8(ascii: "\\") && byte != UInt8(ascii: "\"")
                ? String(Unicode.Scalar(byte))
                : "\\x\(byte.hexadecimal(uppercase: true))"
        }
        return text.joined() + (bytes.count > shownCount ? "…" : "")
    }
}
