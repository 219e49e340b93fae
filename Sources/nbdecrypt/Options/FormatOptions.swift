// SPDX-License-Identifier: Apache-2.0

public import ArgumentParser
public import ImageFormats

/// The option that says what an image is, the same for all commands.
struct FormatOptions: ParsableArguments {
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "The format: raw, qcow, qcow2 or luks. Without it the format is found out, but raw is never guessed.",
            valueName: "format"))
    var format: ImageFormat?
}

extension ImageFormat: ExpressibleByArgument {}
