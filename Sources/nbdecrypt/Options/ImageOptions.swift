// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import ImageFormats

/// The image and its format, for commands that take one image.
struct ImageOptions: ParsableArguments {
    @Argument(help: ArgumentHelp("The image file or block device.", valueName: "image"))
    var image: String

    @OptionGroup var said: FormatOptions

    var format: ImageFormat? { said.format }

    /// Where it is.
    var source: ImageSource { ImageSource(image) }

    func validate() throws {
        guard !image.isEmpty else { throw ValidationError("The name of the image is empty.") }
    }
}
