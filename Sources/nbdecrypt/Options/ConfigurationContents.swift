// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import FoundationEssentials

/// What the file of `--config` holds.
struct ConfigurationContents: Decodable {
    let images: [ConfigurationEntry]

    private enum CodingKeys: String, CodingKey { case images }

    init(from decoder: any Decoder) throws {
        let all = try decoder.container(keyedBy: ConfigurationKey.self).allKeys
        try ConfigurationKey.refuse(all, unlessIn: ["images"], decoder)
        images = try decoder.container(keyedBy: CodingKeys.self).decode([ConfigurationEntry].self, forKey: .images)
    }
}

/// What the file says of one image.
struct ConfigurationEntry: Decodable {
    /// As it is written.
    let path: String
    /// Of the export.
    let name: String?
    /// All other keys with their values, as arguments of a command line.
    let arguments: [String]

    /// The names of arguments where one that is given often has a plural in the file.
    private static let plurals = ["allow-references": "allow-reference"]

    /// An argument that belongs to one run of the program, not to an image.
    private static let refused: Set = ["help", "passphrase-fd"]

    /// What `--help` shows; the options are declared nowhere else.
    private static let optionNames = ServedImageOptions.helpMessage(columns: 1000)
        .matches(of: /(?m)^ +(?:-[a-z], )?--([a-z-]+)/).map { String($0.1) }.filter { !refused.contains($0) }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: ConfigurationKey.self)
        let keys = values.allKeys.sorted { $0.stringValue < $1.stringValue }
        try ConfigurationKey.refuse(
            keys, unlessIn: ["path", "name"] + Self.optionNames, plurals: Self.plurals, decoder)
        path = try values.decode(String.self, forKey: ConfigurationKey("path"))
        name = try values.decodeIfPresent(String.self, forKey: ConfigurationKey("name"))
        arguments = try keys.filter { !["path", "name"].contains($0.stringValue) }.flatMap { key in
            let name = Self.plurals[key.stringValue] ?? key.stringValue
            return try values.decode(ConfigurationValue.self, forKey: key).arguments.map { "--\(name)\($0)" }
        }
    }
}

/// A value as it follows the name of an option.
private struct ConfigurationValue: Decodable {
    /// "=VALUE" for each time that the option is given; nothing for a flag.
    let arguments: [String]

    init(from decoder: any Decoder) throws {
        if var list = try? decoder.unkeyedContainer() {
            var arguments: [String] = []
            while !list.isAtEnd { arguments.append(try list.decode(ConfigurationScalar.self).argument) }
            self.arguments = arguments
        } else {
            arguments = [try ConfigurationScalar(from: decoder).argument]
        }
    }
}

/// A text, a number, or true.
private struct ConfigurationScalar: Decodable {
    let argument: String

    init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if (try? value.decode(Bool.self)) == true {
            argument = ""
        } else if let number = try? value.decode(UInt64.self) {
            argument = "=\(number)"
        } else if let number = try? value.decode(Int64.self) {
            argument = "=\(number)"
        } else if let text = try? value.decode(String.self) {
            argument = "=\(text)"
        } else {
            throw DecodingError.dataCorrupted(
                .init(
                    codingPath: decoder.codingPath,
                    debugDescription: "allowed are a text, a whole number below 2^64, and true, which gives a flag"))
        }
    }
}

/// Any key of an object.
private struct ConfigurationKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(_ name: String) { stringValue = name }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }

    /// A key that is misspelt must not be passed over.
    static func refuse(
        _ keys: [ConfigurationKey], unlessIn known: [String], plurals: [String: String] = [:], _ decoder: any Decoder
    ) throws {
        let unknown = keys.first { !known.contains(plurals[$0.stringValue] ?? $0.stringValue) }
        guard let unknown else { return }
        throw DecodingError.dataCorrupted(
            .init(
                codingPath: decoder.codingPath,
                debugDescription: "\(unknown.stringValue) is not known; there are \(known.joined(separator: ", "))"))
    }
}
