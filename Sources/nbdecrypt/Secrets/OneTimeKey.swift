// SPDX-License-Identifier: Apache-2.0

import BlockIO
import NBDServer

/// A key for TLS that exists while the server does, in a file that only this user can read.
struct OneTimeKey {
    /// Whom clients say they are.
    static let user = "nbdecrypt"

    /// Private, and made for the key. There is room for a socket.
    let directory: String
    /// The file of the key. QEMU wants this name, in a directory that it is told.
    var path: String { "\(directory)/\(ClientCredentials.qemuKeyFile)" }

    /// Makes the key and a directory for its file.
    /// - Throws: ``Failure``.
    init() throws {
        let parent = Process.runtimeDirectory
        do { directory = Process.absolutePath(try Process.makePrivateDirectory(in: parent)) } catch {
            throw Failure(
                .cannotOpen, "cannot make a directory for the key in \(parent): \(error); name a file with --tls-psk")
        }
        do { try PreSharedKeys.makeFile(path, user: Self.user) } catch {
            remove()
            throw Failure(.cannotOpen, error.worded)
        }
    }

    /// Removes the file and its directory, if nothing else is left in it.
    func remove() {
        Process.removeFile(path)
        Process.removeDirectory(directory)
    }
}
