// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Commands of QEMU that read an export.
struct QEMUCommands {
    /// QEMU reads URIs without TLS, of TCP and Unix sockets.
    private let uri: String?
    /// Options of QEMU's NBD client, for the rest.
    private let options: [(name: String, value: String)]
    /// The value of `-object`.
    private let object: String?

    /// Nil when QEMU cannot connect.
    init?(_ uri: NBDURI, _ credentials: ClientCredentials?) {
        let id = "tls0"
        let isSimple = if case .vsock = uri.place { false } else { credentials == nil }
        self.uri = isSimple ? uri.description : nil
        var options = [("driver", "nbd")]
        switch uri.place {
        case .tcp(let host, let port):
            options += [("server.type", "inet"), ("server.host", host), ("server.port", String(port))]
        case .unix(let path):
            // QEMU wants the name in the certificate, which a path does not tell.
            if case .certificates? = credentials { return nil }
            options += [("server.type", "unix"), ("server.path", path)]
        case .vsock(let cid, let port):
            if case .certificates? = credentials { return nil }
            options += [("server.type", "vsock"), ("server.cid", String(cid)), ("server.port", String(port))]
        }
        if !uri.exportName.isEmpty { options.append(("export", uri.exportName)) }
        if let credentials {
            guard let object = credentials.qemuObject(id: id) else { return nil }
            self.object = Self.joined(object)
            options.append(("tls-creds", id))
        } else {
            object = nil
        }
        self.options = options
    }

    /// A command that copies the disk.
    var convert: String {
        let source =
            uri.map { "-f raw -O qcow2 \(ShellText.quoted($0))" }
            ?? "\(objectWord("--object"))--image-opts -O qcow2 \(ShellText.quoted(Self.joined(driveOptions)))"
        return "qemu-img convert -p \(source) copy.qcow2"
    }

    /// A command that boots it.
    func boot(isWritable: Bool) -> String {
        let end = [("if", "virtio")] + (isWritable ? [] : [("readonly", "on")])
        let drive = uri.map { [("file", $0), ("format", "raw")] + end } ?? driveOptions + end
        return "qemu-system-x86_64 -m 2G \(objectWord("-object"))-drive \(ShellText.quoted(Self.joined(drive)))"
    }

    private var driveOptions: [(name: String, value: String)] {
        [("driver", "raw")] + options.map { ("file.\($0.name)", $0.value) }
    }

    private func objectWord(_ option: String) -> String {
        object.map { "\(option) \(ShellText.quoted($0)) " } ?? ""
    }

    private static func joined(_ options: [(name: String, value: String)]) -> String {
        options.map { name, value in
            (name.isEmpty ? "" : "\(name)=") + QEMUOption.value(value)
        }.joined(separator: ",")
    }
}
