// SPDX-License-Identifier: Apache-2.0

public import ArgumentParser
public import ImageFormats

/// The image and its format, the same for all commands.
struct ImageOptions: ParsableArguments {
    @Argument(help: ArgumentHelp("The image file or block device.", valueName: "image"))
    var image: String

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "The format: raw, qcow, qcow2 or luks. Without it the format is found out, but raw is never guessed.",
            valueName: "format"))
    var format: ImageFormat?

    func validate() throws {
        guard !image.isEmpty else { throw ValidationError("The name of the image is empty.") }
    }
}

extension ImageFormat: ExpressibleByArgument {}
