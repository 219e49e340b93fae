// SPDX-License-Identifier: Apache-2.0

import DiskStack
import Foundation
import Logging
import NBDServer

let arguments = CommandLine.arguments
do {
    guard arguments.count == 4 else { throw OpeningError(.usage, "usage: embed IMAGE PASSPHRASE-FILE SOCKET") }
    let secrets = try GivenSecrets(passphraseFile: arguments[2])
    let disks = try DiskOpener(OpeningOptions(.init(arguments[1])), secrets: secrets).disks()
    let exports = disks.map { Export(name: $0.name, description: $0.description, device: $0.device) }
    let server = try Server(exports: ExportTable(exports), processorCount: 2, log: Logger(label: "embed"))
    server.listen(on: try ListeningSocket(unixPath: arguments[3]))
    withExtendedLifetime(server) { dispatchMain() }
} catch {
    print(error)
    exit(1)
}
