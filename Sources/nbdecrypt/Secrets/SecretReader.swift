// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import SystemPackage

/// Reads all bytes of a source, straight into protected memory.
struct SecretReader {
    /// Of the source, for messages.
    let name: String
    /// Ends commands with the program.
    let termination: Termination

    /// - Throws: ``OpeningError``.
    func read(_ origin: SecretOrigin) throws(OpeningError) -> Secret {
        switch origin {
        case .file("-", let offset, let size): try part(.standardInput, isOurs: false, offset, size)
        case .file(let path, let offset, let size): try part(open(path), isOurs: true, offset, size)
        case .descriptor(let number): try part(FileDescriptor(rawValue: number), isOurs: false, 0, nil)
        case .command(let line, _):
            try output(
                of: "/bin/sh", ("-c", line), "see what it says when the shell runs it, and change it")
        case .credential(let name): try part(open(credential(name)), isOurs: true, 0, nil)
        case .keyring(let key): try key.read(name)
        case .libvirtSecret(let uuid):
            // It prints base64.
            try SecretForm.base64.decode(
                output(
                    of: "virsh", ("secret-get-value", uuid),
                    "see `virsh secret-list`; for another daemon set LIBVIRT_DEFAULT_URI, as in qemu:///system"), name)
        case .ciphertext(let text):
            Array(text.utf8).withBytes { bytes in Secret(count: bytes.byteCount) { $0.copy(from: bytes) } }
        case .wrapped(let source, let key, let vector): try unwrapped(source, key, vector)
        }
    }

    private func unwrapped(
        _ source: SecretSource, _ key: SecretSource, _ vector: [UInt8]?
    ) throws(OpeningError) -> Secret {
        let key = try key.read(termination)
        let encrypted = try source.read(termination).secret
        do throws(Secret.UnwrappingFault) {
            return try encrypted.decryptingAES256(key: key.secret, vector: vector)
        } catch {
            let reason: Sentence =
                switch error {
                case .keySize(let count): "\(key.name) holds \(count) bytes, and a key of AES-256 has 32"
                case .size(let count):
                    vector == nil
                        ? "\(count) bytes are not iv and whole blocks of 16; give iv= if the vector is elsewhere"
                        : "\(count) bytes are no whole blocks of 16"
                case .padding:
                    "\(key.name) is not its key, or \(vector == nil ? "an iv= has to be given" : "iv= is that of another")"
                }
            throw OpeningError(.wrongSecret, "\(name) cannot be decrypted: \(reason)")
        }
    }

    private func open(_ path: String) throws(OpeningError) -> FileDescriptor {
        do { return try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec) } catch {
            throw OpeningError(.cannotOpen, "cannot open \(name): \(error); check the name")
        }
    }

    /// The file of a credential: systemd.exec(5), "Credentials".
    private func credential(_ credential: String) throws(OpeningError) -> String {
        guard let directory = Process.environment("CREDENTIALS_DIRECTORY"), !directory.isEmpty else {
            throw OpeningError(
                .cannotOpen,
                "\(name) is not there: CREDENTIALS_DIRECTORY is not set, for this is no service of systemd, or one without "
                    + "credentials; in the unit add LoadCredential=\(credential):FILE, or LoadCredentialEncrypted= for an "
                    + "encrypted file; elsewhere give --passphrase-command 'systemd-creds decrypt FILE -'")
        }
        return "\(directory)/\(credential)"
    }

    private func part(
        _ descriptor: FileDescriptor, isOurs: Bool, _ offset: UInt64, _ size: Int?
    ) throws(OpeningError) -> Secret {
        defer { if isOurs { try? descriptor.close() } }
        let secret: Secret?
        do { secret = try Secret.read(from: descriptor, offset: offset, limit: size) } catch {
            let advice = isOurs ? "is it the right file?" : "open a descriptor in the shell with N<FILE"
            throw OpeningError(.cannotOpen, "cannot read \(name): \(error); \(advice)")
        }
        guard let secret else {
            throw OpeningError(
                .wrongSecret,
                "\(name) holds more than \(Secret.maximumCount) bytes; is it the right file? Of a large one, name a part with "
                    + "--key-file-offset and --key-file-size")
        }
        guard offset == 0 || secret.count > 0 else {
            throw OpeningError(.wrongSecret, "\(name) has no byte at --key-file-offset \(offset)")
        }
        guard secret.count == size ?? secret.count else {
            throw OpeningError(
                .wrongSecret,
                "\(name) holds \(secret.count) bytes from byte \(offset) on, fewer than --key-file-size \(size ?? 0)")
        }
        return secret
    }

    /// What a program writes to its standard output; its messages go where ours do.
    private func output(
        of program: String, _ arguments: (String, String), _ advice: Sentence
    ) throws(OpeningError) -> Secret {
        // What has been said before is what the person should know who sees its questions.
        LineQueue.standardError.drain()
        let child: ReadChild
        do { child = try ReadChild(program, arguments) } catch
            where error == .noSuchFileOrDirectory && program == "virsh"
        {
            throw OpeningError(.cannotOpen, "\(name): virsh is not installed; on Debian: apt install libvirt-clients")
        } catch {
            throw OpeningError(.cannotOpen, "\(name): \(program) cannot be run: \(error)")
        }
        let ending = termination.begin { child.terminate() }
        let secret: Result<Secret?, Errno>
        do { secret = .success(try Secret.read(from: child.output)) } catch { secret = .failure(error) }
        if case .success(.some) = secret {} else { child.terminate() }
        let status = child.wait { termination.forget(ending) }
        termination.waitIfOver()
        switch secret {
        case .failure(let error): throw OpeningError(.cannotOpen, "cannot read \(name): \(error)")
        case .success(nil):
            throw OpeningError(
                .wrongSecret,
                "\(name) has printed more than \(Secret.maximumCount) bytes; does it print a secret, and nothing else?")
        case .success(let secret?):
            guard status == .exited(0) else {
                throw OpeningError(
                    .cannotOpen,
                    "\(name) has failed: it \(status); \(advice)"
                )
            }
            guard secret.count > 0 else {
                throw OpeningError(
                    .wrongSecret, "\(name) has printed nothing; it is to print the secret to standard output")
            }
            return secret
        }
    }
}
